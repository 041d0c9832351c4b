"""Recording the data of a run when it starts."""

from __future__ import annotations

from collections.abc import Mapping

from kamerton.data.gate import Prepared
from kamerton.data.report import manifest
from kamerton.errors import Fault, UserError
from kamerton.run.directory import RunDirectory


def record_start(
    run: RunDirectory, prepared: Prepared, counts: Mapping[str, int], seed: int, *, force: bool | None = None
) -> None:
    """Record the data and the seed. Raises `UserError` if the run was started with other data.

    `force` is whether `resume=force` was given, which continues with other data; None if it is not supported.
    """
    before = run.record.data.fingerprint
    if before not in (None, prepared.fingerprint):
        if not force:
            message = f"run {run.run_id} was started with other data: the files or the split options have changed since"
            new = "or give another run_id for a new run"
            if force is not None:
                new = "give another run_id for a new run, or resume=force to continue with the new data"
            fix, file = f"restore the data to resume it, {new}", str(run.path / "run.json")
            raise UserError([Fault("run.data-changed", message, fix, file=file, column="data")])
        run.event("warn", "data-changed", "the run was resumed with other data", evidence=prepared.fingerprint)
    data = {"fingerprint": prepared.fingerprint, "counts": dict(counts), "report": manifest(prepared)}
    run.update(data=data, seed=seed)


def record_faults(run: RunDirectory, prepared: Prepared) -> None:
    """Add the warnings of the data to the run's events, unless it is resumed."""
    if not run.resuming:
        for fault in prepared.facts.faults:
            run.event("warn", fault.code, fault.message, evidence=fault.where, advice=fault.fix)
