"""Tasks of lm-evaluation-harness on a loaded model; the optional package is imported lazily."""

from __future__ import annotations

import importlib.util
from typing import Any

from kamerton.config.model_options import ModelOptions
from kamerton.errors import Fault, UserError
from kamerton.model.attention import ATTENTION
from kamerton.model.layers import base_of
from kamerton.model.load import load_tokenizer
from kamerton.score.load import Loaded
from kamerton.score.options import HarnessOptions


def check_harness() -> list[Fault]:
    """Return a fault if lm-evaluation-harness is not installed."""
    if importlib.util.find_spec("lm_eval") is not None:
        return []
    message = "lm_eval.tasks needs lm-evaluation-harness, which is not installed"
    return [Fault("lm_eval.package", message, "pip install 'kamerton[lm-eval]'", column="lm_eval.tasks")]


def run_tasks(loaded: Loaded, model: ModelOptions, options: HarnessOptions) -> dict[str, dict[str, Any]]:
    """Run tasks of the harness and return its metrics and standard errors by task.

    Raises `UserError` if the package is missing or a task is unknown.
    """
    if faults := check_harness():
        raise UserError(faults)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=options.include)
    unknown = [name for name in options.tasks if name not in manager.all_tasks]
    if unknown:
        fix = "list tasks with `lm-eval ls tasks`, or set lm_eval.include=FOLDER for custom ones"
        message = f"lm-evaluation-harness has no task {', '.join(unknown)}"
        raise UserError([Fault("lm_eval.task", message, fix, column="lm_eval.tasks")])
    inner = base_of(loaded.model)
    if inner.config._attn_implementation == ATTENTION:
        inner.set_attn_implementation("sdpa")
    tokenizer = load_tokenizer(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    batch_size = 8 if loaded.device.type == "cpu" else "auto"
    wrapped = HFLM(pretrained=loaded.model, tokenizer=tokenizer, batch_size=batch_size)
    results = simple_evaluate(model=wrapped, tasks=options.tasks, task_manager=manager, limit=options.limit)
    return {name: dict(values) for name, values in results["results"].items()}
