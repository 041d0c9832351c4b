"""Record every outcome of a run in its `run.json`, from opening to release."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from pytorch_lightning.utilities.exceptions import SIGTERMException

from kamerton.decide.report.run import write_report
from kamerton.errors import Cancelled, Fault, Interrupted, RunFailed, UserError
from kamerton.run.directory import RunDirectory
from kamerton.run.environment import environment
from kamerton.train.checkpoints import NO_SPACE


@contextmanager
def recorded(
    run: RunDirectory, overrides: Sequence[str], report: Callable[[Path], Path] | None = write_report
) -> Iterator[RunDirectory]:
    """Record how the block ends: paused if interrupted, else cancelled or failed with the reason.

    `report` writes the report of a run that stops early.
    """
    try:
        if run.writes:
            (run.path / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
        run.set_state("validating_files", error=None, **environment())
        if run.resuming:
            run.event("info", "resumed", "the run was resumed")
        if run.changed:
            run.event("warn", "changed", "resumed with a changed configuration", evidence=run.changed)
        yield run
    except (Interrupted, KeyboardInterrupt, SIGTERMException) as error:  # Lightning may see a SIGTERM first
        run.set_state("paused")
        run.event("info", "interrupted", "the run was interrupted", advice=f"resume with run_id={run.run_id}")
        _report_quietly(run, report)
        raise Interrupted(run.run_id) from error
    except Cancelled as error:
        code, message = error.fault.code, error.fault.message
        run.set_state("cancelled", error={"code": code, "message": message, "param": None})
        run.event("info", code, message)
        _report_quietly(run, report)
        raise
    except UserError as error:
        first = error.faults[0]
        run.set_state("failed", error={"code": first.code, "message": first.message, "param": first.column})
        raise
    except BaseException as error:
        fault = error.fault if isinstance(error, RunFailed) else _no_space(run, error)
        code, message = (fault.code, fault.message) if fault else (type(error).__name__, str(error))
        with suppress(OSError):  # even this write fails on a full disk
            run.set_state("failed", error={"code": code, "message": message, "param": None})
            run.event("error", "failed", f"{code}: {message}")
        _report_quietly(run, report)
        if fault is None:
            raise
        raise RunFailed(fault) from error
    finally:
        run.release()


def _no_space(run: RunDirectory, error: BaseException) -> Fault | None:
    """Return the fault of a full disk; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in NO_SPACE:
        return None
    free = shutil.disk_usage(run.path).free
    message = f"{error.strerror}: {error.filename or run.path} could not be written ({free / 2**20:,.0f} MiB free)"
    fix = f"free some space, then resume with run_id={run.run_id}; earlier files are intact"
    return Fault("disk.full", message, fix, file=str(run.path))


def _report_quietly(run: RunDirectory, report: Callable[[Path], Path] | None) -> None:
    """Write a report of the results so far; suppress its errors, which would hide why the run ended."""
    if run.writes and report:
        with suppress(Exception):
            report(run.path)
