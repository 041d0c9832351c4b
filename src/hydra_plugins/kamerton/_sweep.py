"""A sweep from its configuration to its result, with study, launcher and terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from optuna import Study, Trial
from optuna.trial import FrozenTrial

from hydra_plugins.kamerton import _jobs
from hydra_plugins.kamerton._compose import composing_once
from hydra_plugins.kamerton._config import application, flat, params, refuse, shown, space_function, typed
from hydra_plugins.kamerton._definition import changes_since, study_definition
from hydra_plugins.kamerton._live import Terminal, say_end
from hydra_plugins.kamerton._objective import TakenOver, objective, quiet
from hydra_plugins.kamerton._process import signals_forwarded, stoppable
from hydra_plugins.kamerton._results import (
    LOCK,
    Finished,
    failure_reasons,
    finished,
    params_of_best,
    replace,
    result,
    write_files,
)
from hydra_plugins.kamerton._space import SweepError, SweepFailed, override, parse_space
from hydra_plugins.kamerton._storage import absolute, answering, close, has_password, lost, open_storage
from hydra_plugins.kamerton._study import (
    Limits,
    NothingLeft,
    SweepStudy,
    enqueue,
    grid_points,
    open_study,
    sampler_factory,
)
from hydra_plugins.kamerton._tickets import outcome
from hydra_plugins.kamerton._trial import STORAGE_VARIABLE, original_number
from kamerton.console import plain_console
from kamerton.locks import exclusive


class Sweep:
    """One worker of a sweep. Its constructor sets what jobs must know: the study's name and its storage."""

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        context = composing_once(context)
        self.context, self.config = context, config
        self.space = parse_space(params(config), typed(config, "task"), context.config_loader)
        self.definition = study_definition(config, self.space)
        self.name = self._set_name()
        self.directory = Path(config.hydra.sweep.dir).absolute()
        self.storage = self._set_storage()
        self.options: dict[str, Any] = OmegaConf.to_container(config.hydra.sweeper, resolve=True)  # type: ignore[assignment]
        if not self.space.dimensions and not self.options["custom_search_space"]:
            raise SweepError("nothing is varied\n  fix: give a key a sweep, as in lr=interval(0.001,0.1)")
        refuse(self.options)
        self.function = space_function(self.options["custom_search_space"])
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )
        # by name: Hydra executes the modules of its own plugins anew whenever it scans them
        if self.options["n_jobs"] != 1 and type(self.launcher).__name__ == "BasicLauncher":
            raise SweepError(
                f"hydra.sweeper.n_jobs={self.options['n_jobs']}, but jobs run in this process, one at a time\n"
                "  fix: hydra/launcher=process, or start the same command several times"
            )

    def probes(self) -> list[list[str]]:
        """Return overrides that cover every choice and both bounds of every interval, to check before any job."""
        samples = {key: dimension.samples() for key, dimension in self.space.dimensions.items()}
        most = max([1, *map(len, samples.values())])
        points = [{key: values[i % len(values)] for key, values in samples.items()} for i in range(most)]
        return [[*self.space.fixed, *self.space.overrides(point)] for point in points]

    def run(self) -> Finished:
        """Run trials until none is left for this worker, then write what the study has become."""
        options = self.options
        limits = Limits(options["n_trials"], points=grid_points(options["sampler"], options["seed"], self.space))
        with answering(self.storage), quiet():
            storage = open_storage(self.storage, options["heartbeat_interval"], options["grace_period"])
            sampler_for = sampler_factory(options["sampler"], options["seed"])
            study = open_study(
                self.name, storage, self.definition, pruner=options["pruner"], sampler_for=sampler_for, limits=limits
            )
            enqueue(study, [self._enqueued(entry) for entry in options["enqueue"]])
            try:
                return self._run(study, limits)
            finally:
                close(study._storage)

    def _run(self, study: SweepStudy, limits: Limits) -> Finished:
        points = None if limits.points is None else len(limits.points)
        total = min((count for count in (limits.total, points) if count is not None), default=None)
        terminal = Terminal(plain_console(), study, total)
        limits.waits = terminal.waits
        if points and total is not None and total < points:
            text = f"warning: {total} of {points} points of the grid; hydra.sweeper.n_trials=null tries all"
            terminal.console.print(text, highlight=False, soft_wrap=True)
        if changes := changes_since(study, flat(self._application(), self.space.dimensions)):
            text = "\n".join(["warning: the configuration has changed since this study began:", *changes])
            fix = (
                "if that changes results, trials are not comparable: start a new study with hydra.sweeper.study_name=…"
            )
            terminal.console.print(f"{text}\n  fix: {fix}", highlight=False, markup=False, soft_wrap=True)
        replace(self.directory / "multirun.yaml", shown(self.config))
        timeout, too_many = self.options["timeout"], ""
        limits.deadline = time.monotonic() + timeout if timeout else None
        try:
            with terminal, stoppable(), signals_forwarded():
                too_many = self._optimize(study, limits, terminal)
        except BaseException as error:
            if not lost(error):  # a storage that does not answer cannot be read
                self._end(study, terminal)
            raise
        end = self._end(study, terminal, gave_up=bool(too_many))
        if reasons := too_many or failure_reasons(study, end):
            raise SweepFailed(reasons)
        return end

    def _end(self, study: SweepStudy, terminal: Terminal, *, gave_up: bool = False) -> Finished:
        """Write and print the state of the study."""

        def warn(message: str) -> None:
            note = "the files of the sweep are written without it, and may be overwritten by an older state"
            terminal.console.print(f"warning: {message}: {note}", highlight=False, markup=False, soft_wrap=True)

        with exclusive(self.directory / LOCK, warn):
            end = result(study, self.space, self.directory, self.storage, gave_up=gave_up)
            write_files(end, study, study.user_attrs["sweep"])
        say_end(terminal.console, end)
        finished.append(end)
        return end

    def _set_name(self) -> str:
        """Return the study's name, by default a hash of its definition, so that the same command resumes it."""
        name = self.config.hydra.sweeper.study_name
        if name is None:
            study = self.definition
            parts = (sorted(study.space.items()), study.fixed, study.directions, study.function)
            name = f"sweep-{sha256(repr(parts).encode()).hexdigest()[:8]}"
        self._set("study_name", name, override("hydra.sweeper.study_name", name))
        return str(name)

    def _set_storage(self) -> str:
        """Return the storage's URL. With a password or from the environment, it reaches jobs only through that."""
        sweeper = self.config.hydra.sweeper
        url = absolute(sweeper.storage or f"sqlite:///{self.directory / 'study.db'}")
        if has_password(url) or "${oc.env:" in str(OmegaConf.to_container(sweeper)["storage"]):  # type: ignore[call-overload,index]
            os.environ[STORAGE_VARIABLE] = url
            variable = f"${{oc.env:{STORAGE_VARIABLE}}}"
            self._set("storage", variable, f"hydra.sweeper.storage={variable}")
        else:
            self._set("storage", url, override("hydra.sweeper.storage", url))
        return url

    def _set(self, key: str, value: str, text: str) -> None:
        """Set a key for this process, and for every job that composes its configuration anew."""
        hydra = self.config.hydra
        prefix = f"hydra.sweeper.{key}="
        others = [text for text in typed(self.config, "hydra") if not text.lstrip("+").startswith(prefix)]
        with read_write(hydra), open_dict(hydra):
            hydra.sweeper[key] = value
            hydra.overrides.hydra = [*others, text]

    def _enqueued(self, entry: Any) -> dict[str, Any]:
        """Return the parameters in `entry`, or those of the best trial of the sweep in that directory."""
        params = entry if isinstance(entry, Mapping) else params_of_best(Path(str(entry)))
        space = self.space.dimensions
        unknown = [str(key) for key in params if key not in space]
        if unknown and isinstance(entry, Mapping) and not self.options["custom_search_space"]:
            raise SweepError(f"hydra.sweeper.enqueue has {', '.join(unknown)}; the space has {', '.join(space)}")
        return {str(key): space[key].stored(value) if key in space else value for key, value in params.items()}

    def _optimize(self, study: SweepStudy, limits: Limits, terminal: Terminal) -> str:
        """Run trials until none is left. Return why it stopped early, if it did because too many failed."""
        failures: list[str] = []
        most = self.options["max_failures"]
        suggest = None if self.function is None else partial(self.function, self._application())
        run = objective(self.space, self._launch, suggest, len(self.definition.directions))
        options = {"n_jobs": self.options["n_jobs"], "catch": (Exception,)}

        def ended(study: Study, trial: FrozenTrial) -> None:
            terminal.ended(study, trial)
            if outcome(trial) == "failed":
                failures.append(f"trial {trial.number}: {trial.user_attrs.get('error', 'failed')}")
            if most is not None and len(failures) >= most:
                study.stop()

        while True:
            timeout = None if limits.deadline is None else max(0.0, limits.deadline - time.monotonic())
            try:
                study.optimize(run, timeout=timeout, callbacks=[ended], **options)
                break
            except NothingLeft:
                break
            except TakenOver:
                continue
        if most is None or len(failures) < most:
            return ""
        last = "".join(f"  {text}\n" for text in failures[-3:])
        return (
            f"{len(failures)} trials failed, as many as hydra.sweeper.max_failures allows; the last ones:\n{last}"
            "  fix: correct what fails, then run the same command again: it resumes"
        )

    def _application(self) -> DictConfig:
        return application(self.config, self.context.config_loader, self.space.fixed)

    def _launch(self, trial: Trial, overrides: list[str]) -> JobReturn:
        assert self.launcher is not None
        original = original_number(trial)
        if original != trial.number:
            with _jobs.composing:
                subdir = self._subdir(overrides, original)
            overrides = [*overrides, override("hydra.sweep.subdir", subdir)]
        (returned,) = self.launcher.launch([overrides], initial_job_idx=trial.number)
        return returned

    def _subdir(self, overrides: Sequence[str], number: int) -> str:
        """Return the directory of the trial `number`, below that of the sweep."""
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with read_write(config), open_dict(config):
            config.hydra.job.num = config.hydra.job.id = number
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)
        try:
            return str(config.hydra.sweep.subdir)
        finally:
            HydraConfig.instance().cfg = before
