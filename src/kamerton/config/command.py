"""From the command line through Hydra to a job: what every command that takes a configuration shares."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from hydra_plugins.kamerton import _jobs
from hydra_plugins.kamerton._overrides import SweepFailed
from kamerton.config.check import validate
from kamerton.config.compose import compose_config, conf_dir, config_loader, force, plain, searching, unused_groups
from kamerton.config.data_choice import with_data_choice
from kamerton.config.exit_codes import exit_code
from kamerton.config.faults import TRAIN, Checked, Preflight, Root, check_command
from kamerton.config.flags import only_shows, parse_flags
from kamerton.config.hydra_internals import run_hydra, run_single
from kamerton.config.jobs import JobRequest, JobResult, Options, Stopped, SweepJob, Values, launched_jobs, run_task
from kamerton.config.judging import job_faults
from kamerton.config.origin import key_of
from kamerton.config.overrides import quote_templates
from kamerton.config.search import search_words, split_search
from kamerton.config.secrets import unresolved
from kamerton.config.sweep import begins_sweep
from kamerton.errors import Fault, FaultCollector, Interrupted, UserError
from kamerton.output import print_counts, print_fault
from kamerton.shell import command_line, train_line

Job = Callable[[JobRequest[Options]], JobResult | None]
Compose = Callable[[Sequence[str]], tuple[Values, Values]]
Finish = Callable[[Any, Compose, tuple[str, ...]], None]


def run_command(
    arguments: Sequence[str],
    job: Job[Options],
    preflight: Preflight | None = None,
    summary: Callable[[Sequence[SweepJob]], None] | None = None,
    root: Root[Options] = TRAIN,  # type: ignore[assignment]
    finish: Finish | None = None,
) -> int:
    """Check everything that was typed, then let Hydra run `job` once or for each point of a sweep.

    `root` is what the command composes. `preflight` finds faults beyond the schema; `summary` is called with the jobs
    of a plain sweep, which continues after a failed job; `finish` with the sweep of a study that has ended. Returns the
    exit code: 0, 1 failed, 2 faults (all printed), 130 stopped by the user.
    """
    jobs: list[SweepJob] = []
    before = len(_studies())
    with _terminated_as_interrupted(), exit_code(jobs) as exit:
        flags = parse_flags(quote_templates(arguments), root.name)
        if not flags.shell_completion:
            loader = config_loader(flags.config_dir, flags.overrides)
            flags.overrides = with_data_choice(flags.overrides, loader, root.name)
        with _noting_how_to_resume(flags, root):
            if flags.shell_completion:  # its words are instructions such as install=bash, not overrides
                run_hydra(flags, lambda config: None, str(conf_dir()), root.name)
            else:
                checked = _checked(flags, preflight, root)
                search = tuple(search_words(flags.config_dir, flags.overrides))
                _run_jobs(flags, checked, job, jobs, root, search, raises=finish is None)
                if ended := _studies()[before:]:
                    jobs.clear()  # the study's sweeper has reported how its trials ended
                    if finish is not None:
                        finish(ended[-1], partial(_composed, flags=flags, root=root.name), search)
    if summary and len(jobs) > 1 and len(_studies()) == before:
        summary(jobs)
    return exit.code


def _checked(flags: argparse.Namespace, preflight: Preflight | None, root: Root[Options]) -> Checked[Options] | None:
    """Compose and check what was typed. Errors are printed as they are found, and exit with 2."""
    shows = only_shows(flags)
    faults = FaultCollector(print_fault, ignored=("config.missing",) if shows else ())
    checked = check_command(
        flags.overrides,
        flags.config_dir,
        None if shows else preflight,
        sweeps=flags.multirun,
        root=root,
        faults=faults,
    )
    print_counts(faults.faults)
    if faults.has_errors:
        sys.exit(2)
    return checked


def _run_jobs(
    flags: argparse.Namespace,
    checked: Checked[Options] | None,
    job: Job[Options],
    jobs: list[SweepJob],
    root: Root[Options],
    search: tuple[str, ...],
    *,
    raises: bool,
) -> None:
    """Let Hydra show what the flags ask for, run the job once, or run a sweep.

    What Hydra refuses before any job is raised as a `UserError`; a failed study only if it `raises`.
    """
    single = None if only_shows(flags) or flags.multirun or checked is None or checked.is_sweep else checked
    try:
        if single is not None:
            request = partial(_request_of, single, search)
            task = partial(run_task, job=job, request=request, jobs=jobs)
            run_single(single.config, single.loader, task, root.name)
        else:
            request = partial(_request_of_point, root=root, typed=flags.overrides, search=search)
            task = partial(run_task, job=job, request=request, jobs=jobs)
            flags = argparse.Namespace(**{**vars(flags), "overrides": force(flags.overrides, flags.config_dir)})
            _jobs.flags[:] = [f"--config-dir={flags.config_dir}"] if flags.config_dir else []
            with _only_groups_of(root.name, filtered=flags.help):
                run_hydra(flags, task, str(conf_dir()), root.name)
    except SweepFailed:
        if raises:  # otherwise `finish` reports it, after the sweep's report
            raise
    except Exception as error:
        if jobs or _jobs.finished:
            raise
        message, _, fix = str(error).partition("\n  fix: ")
        if fix:  # reported by a sweeper
            raise UserError([Fault("config.sweep", message, fix)]) from error
        message, fix = f"{type(error).__name__}: {error}", "see kamerton train --hydra-help"
        raise UserError([Fault("config.hydra", message, fix)]) from error
    finally:
        jobs += launched_jobs(_jobs.finished)
        _jobs.finished.clear()


def _request_of(
    checked: Checked[Options], search: tuple[str, ...], config: Any, overrides: tuple[str, ...]
) -> JobRequest[Options]:
    """The request of a single job: what was checked is what runs."""
    del config
    assert checked.options is not None
    return JobRequest(checked.options, checked.values, checked.unresolved, overrides, search)


def _request_of_point(
    config: Any, overrides: tuple[str, ...], *, root: Root[Options], typed: Sequence[str], search: tuple[str, ...]
) -> JobRequest[Options]:
    """The request of one job of a sweep, whose values are validated and judged here: before the sweep, each of them
    was checked alone. Raises `UserError`.
    """
    values, by_name = plain(config), unresolved(config)
    if HydraConfig.get().mode is RunMode.MULTIRUN and (faults := job_faults(values, by_name, typed, search)):
        raise UserError(faults)
    options, faults = validate(values, root.schema)
    if options is None:
        raise UserError(faults)
    return JobRequest(options, values, by_name, overrides, search)


@contextmanager
def _only_groups_of(root: str, *, filtered: bool) -> Iterator[None]:
    """Leave the groups of other commands out of Hydra's help, which lists every group in `conf/`."""
    if not filtered:
        yield
        return
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            yield
    finally:
        unused = unused_groups(root)
        print("\n".join(line for line in text.getvalue().splitlines() if line.partition(":")[0] not in unused))


@contextmanager
def _noting_how_to_resume(flags: argparse.Namespace, root: Root[Any]) -> Iterator[None]:
    """Add to an interruption the command that continues all of a grid or a sweep."""
    try:
        yield
    except (Stopped, KeyboardInterrupt, Interrupted) as stopped:
        if root is TRAIN and (line := _resume_command(flags)):
            stopped.add_note(f"resume all of it with (finished runs are kept):\n  {line}")
        raise


def _resume_command(flags: argparse.Namespace) -> str:
    """The command that continues all of a grid or a sweep; empty for a single run."""
    search, others = split_search(flags.overrides)
    parsed = OverridesParser.create().parse_overrides(others)
    single = [text for text, override in zip(others, parsed, strict=True) if not override.is_sweep_override()]
    words = force([*search, *single], flags.config_dir)
    config = compose_config(searching(flags.config_dir, words), with_hydra=True)
    flag_words = search_words(flags.config_dir, search) + ["-m"] * flags.multirun
    if begins_sweep(config.hydra):  # its name follows from the words: they stay as they are
        return command_line("train", *flag_words, *others)
    if not (flags.multirun or getattr(config.hydra.mode, "name", "") == "MULTIRUN"):
        return ""
    kept = [text for text in others if key_of(text) != "resume"]
    return train_line(flag_words, kept, config.paths.outputs, "resume=auto")


def _studies() -> list[Any]:
    """The sweeps of studies that have ended in this process (`hydra_plugins.kamerton._results.Finished`)."""
    module = sys.modules.get("hydra_plugins.kamerton._results")
    return list(module.finished) if module else []


def _composed(overrides: Sequence[str], *, flags: argparse.Namespace, root: str) -> tuple[Values, Values]:
    """The values of a job with these overrides, resolved and with the environment's by name (as in `JobRequest`)."""
    search, _ = split_search(flags.overrides)
    config = compose_config(searching(flags.config_dir, [*search, *overrides]), root)
    return plain(config), unresolved(config)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM stops the block as Ctrl-C does; only the main thread may set handlers of signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
