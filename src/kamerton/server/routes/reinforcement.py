"""Reinforcement jobs: the grader and the hyperparameters of a request, and what they are for `kamerton train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra_plugins.kamerton._overrides import override
from kamerton.config.objective_options import ObjectiveOptions
from kamerton.data.options import Columns, DataOptions
from kamerton.errors import Fault
from kamerton.objective.graders import grader_faults, paths_read
from kamerton.server.errors import ApiError
from kamerton.server.routes.job_request import JobRequest, Reinforcement, ReinforcementHyperparameters, number

FILE = "grader.json"  # in the run directory: a configuration would interpolate ${…} in a client's text
PARAM = "method.reinforcement"
SAMPLES = ObjectiveOptions().samples  # completions of a prompt with compute_multiplier 1
MAX_FAULTS = 5  # of a grader, in a message


def check_reinforcement(request: JobRequest) -> Reinforcement:
    """Return the settings of a request. Raises `ApiError` if they are missing or cannot be used."""
    settings = request.method.reinforcement if request.method else None
    if settings is None:
        raise ApiError(400, f"{PARAM} is required", PARAM, "missing_required_parameter")
    check_grader(settings.grader, f"{PARAM}.grader")
    options = settings.hyperparameters
    if options is not None and number(options.eval_interval) is not None and request.validation_file is None:
        param = f"{PARAM}.hyperparameters.eval_interval"
        raise ApiError(400, f"{param} does nothing without a validation_file", param, "invalid_value")
    return settings


def check_grader(grader: object, param: str) -> None:
    """Raise `ApiError` with the faults of a grader, whose parameter is `param`."""
    faults: list[Fault] = list(grader_faults(grader, param))
    if faults:
        message = "; ".join(f"{fault.column}: {fault.message}; {fault.fix}" for fault in faults[:MAX_FAULTS])
        raise ApiError(400, message, faults[0].column, "invalid_grader")


def graded_data(data: DataOptions, grader: Mapping[str, Any]) -> DataOptions:
    """Return the options of prompts alone, whose other columns are for the grader and not shown to the model."""
    fields = dict.fromkeys(path[0] for path in paths_read(grader) if path[0] != "tools")
    columns = Columns(messages="messages", metadata=list(fields))
    return replace(data, rows="prompts", columns=columns, policy={"unused-field": "warn"})


def reinforcement_overrides(options: ReinforcementHyperparameters, path: Path) -> Sequence[str]:
    """Return the overrides of `kamerton train` for the job at `path`."""
    multiplier, interval = number(options.compute_multiplier), number(options.eval_interval)
    return [
        "reward=grader",
        override("reward.grader.file", str(path / FILE)),
        "reward.grader.prompts_alone=true",
        *([] if multiplier is None else [override("objective.samples", round(multiplier * SAMPLES))]),
        *([] if interval is None else ["eval.strategy=steps", override("eval.every", interval)]),
    ]


def shown_hyperparameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of a job beside the common ones, with the values used for `auto`."""
    by_steps = values["eval"]["strategy"] == "steps"
    return {
        "compute_multiplier": values["objective"]["samples"] / SAMPLES,
        "eval_interval": values["eval"]["every"] if by_steps else "auto",
        "eval_samples": 1,
        "reasoning_effort": "default",
    }
