"""`hydra/launcher=process`: every job of a sweep in its own process, on Linux and macOS.

The application is started again for each job, as for a single run (Hydra's RUN mode), so whatever works there works in
a sweep: processes that the job starts itself (DDP), a clean GPU, an out-of-memory kill that costs only this job. The
job's directory is the one it would have in the sweep; its value is the application's return value.
"""

import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.kamerton import _config, _jobs
from hydra_plugins.kamerton._gpus import free_gpus
from hydra_plugins.kamerton._internals import get_args_parser
from hydra_plugins.kamerton._process import Ended, run, signals_forwarded
from hydra_plugins.kamerton._trial import TRIAL_VARIABLE

log = logging.getLogger(__name__)
_OWN = (
    "hydra.mode",
    "hydra.run.dir",
    "hydra.job.num",
    "hydra.job.id",
    "hydra.sweeper.storage",
)  # may contain a password


@dataclass
class ProcessLauncherConf:
    """`gpus`: how many of the visible GPUs each job owns, if there are any; null: it sees all of them."""

    _target_: str = "hydra_plugins.kamerton.process_launcher.ProcessLauncher"
    gpus: int | None = 1


ConfigStore.instance().store(group="hydra/launcher", name="process", node=ProcessLauncherConf, provider="kamerton")


class ProcessLauncher(Launcher):
    """Runs the jobs of a batch one after the other; several threads may launch at once."""

    def __init__(self, gpus: int | None = 1) -> None:
        self._gpus = gpus

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        del task_function  # the job's process imports it
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        with _jobs.composing:
            setup_globals()
            configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        with signals_forwarded():
            return [self._run(list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]

    def _run(self, overrides: list[str], number: int) -> JobReturn:
        log.info(f"\t#{number} : {' '.join(filter_overrides(overrides))}")
        with _jobs.composing:
            config, directory = self._composed(overrides, number)
        directory.mkdir(parents=True, exist_ok=True)
        output = directory / f"job-{number}.log"
        command = [*start_command(), *_flags(), *self._overrides(overrides, directory, number)]
        has_table = sys.stdout.isatty() and not str(config.hydra.sweeper._target_).endswith(".BasicSweeper")
        with free_gpus(self._gpus) as gpus, tempfile.TemporaryDirectory(prefix="hydra-job-") as folder:
            result = Path(folder) / "result.json"
            ended = run(
                command,
                {**gpus.environment, **_trial(config, number)},
                result=result,
                log=output,
                echo=not has_table,  # output would break the sweeper's table
                pass_fds=gpus.locks,
            )
            report = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
        return _job_return(config, overrides, number, ended, report, output)

    def _composed(self, overrides: list[str], number: int) -> tuple[DictConfig, Path]:
        """Compose the job's configuration; return it with the job's directory."""
        config = self._context.config_loader.load_sweep_config(self._config, overrides)
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        state = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)
        try:
            return config, Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)).absolute()
        finally:
            HydraConfig.instance().cfg = state

    def _overrides(self, overrides: list[str], directory: Path, number: int) -> list[str]:
        """Return the job's overrides: those of the sweep, and those that make it a single run."""
        typed = _config.typed(self._config, "hydra")
        shared = [text for text in typed if text.lstrip("+~").partition("=")[0] not in _OWN]
        return [
            *shared,
            *overrides,
            "hydra.mode=RUN",
            f"hydra.run.dir={QuotedString(str(directory), Quote.single).with_quotes()}",
            f"hydra.job.num={number}",
            f"hydra.job.id='{number}'",
            "+hydra.callbacks.in_process={_target_: hydra_plugins.kamerton._child.InProcess}",
        ]


def start_command() -> list[str]:
    """Return the command that starts the application: the one it has set, or that of this process."""
    if _jobs.command:
        return list(_jobs.command)
    module = getattr(sys.modules["__main__"], "__spec__", None)
    safe = ["-P"] if sys.flags.safe_path else []  # no imports from the current folder, as here
    if module is not None:
        return [sys.executable, *safe, "-m", module.name.removesuffix(".__main__")]
    return [sys.executable, *safe, os.path.abspath(sys.argv[0])]


def _flags() -> list[str]:
    """Return Hydra's flags of this command that locate its configuration."""
    if _jobs.command:
        return list(_jobs.flags)
    flags, _ = get_args_parser().parse_known_args(sys.argv[1:])
    names = ("config_path", "config_name", "config_dir")
    return [f"--{name.replace('_', '-')}={getattr(flags, name)}" for name in names if getattr(flags, name)]


def _trial(config: DictConfig, number: int) -> dict[str, str]:
    """Return the environment that names the job's trial, if there is a study; a command line would show its secrets."""
    sweeper = config.hydra.sweeper
    study, storage = (OmegaConf.select(sweeper, key) for key in ("study_name", "storage"))
    if study is None or storage is None:
        return {}
    return {TRIAL_VARIABLE: json.dumps({"study_name": str(study), "storage": str(storage), "number": number})}


def _job_return(
    config: DictConfig, overrides: list[str], number: int, ended: Ended, report: dict[str, Any], output: Path
) -> JobReturn:
    """Return the result as Hydra's sweepers expect it; the job is added to `_jobs.finished` as well."""
    error = None if ended.code == 0 and "value" in report else _failure(number, ended, report.get("error"), output)
    text = None if error is None else str(error)
    value = report.get("value") if error is None else None
    _jobs.finished.append(_jobs.Job(number, tuple(overrides), ended.code, value, text, report.get("facts", {})))
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return JobReturn(
        overrides=list(overrides),
        cfg=task,
        hydra_cfg=OmegaConf.masked_copy(config, "hydra"),
        working_dir=os.getcwd(),
        task_name=JobRuntime.instance().get("name"),
        status=JobStatus.COMPLETED if error is None else JobStatus.FAILED,
        _return_value=value if error is None else error,
    )


def _failure(number: int, ended: Ended, error: dict[str, str | None] | None, output: Path) -> Exception:
    """Return the job's own exception if it had one; else how its process ended, with its last lines."""
    if error is not None and error["type"] == "optuna.exceptions.TrialPruned":
        from optuna import TrialPruned

        return TrialPruned(error["text"])
    if error is not None:
        return _jobs.JobFailed(f"{str(error['type']).removeprefix('builtins.')}: {error['text']}", error["code"])
    lines = "".join(f"\n    {line}" for line in ended.lines)
    tail = f"; its last output (all of it is in {output}):{lines}" if lines else f"; it printed nothing ({output})"
    return _jobs.JobFailed(f"job {number} {_describe_exit(ended.code)}{tail}")


def _describe_exit(code: int) -> str:
    """Return an exit code in words; a shell adds 128 to the signal."""
    number = -code if code < 0 else code - 128
    if code >= 0 and not 128 < code < 160:
        return f"ended with exit code {code} and no result"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"was killed by {name}" + (" (out of memory?)" if number == signal.SIGKILL else "")
