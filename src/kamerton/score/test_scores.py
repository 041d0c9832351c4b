"""The score table of an evaluation's test set: by a loaded model or an engine, preferences with their reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from kamerton.config.schema import ScoreOptions
from kamerton.console import count_bar
from kamerton.data.options import COMPARED
from kamerton.errors import Fault
from kamerton.objective.judgements import JudgedRows
from kamerton.score.engine_table import engine_table
from kamerton.score.evaluate import choose_mode, passes, score_mismatched, score_split, scoring
from kamerton.score.load import Loaded, without_training
from kamerton.score.options import EvaluateOptions
from kamerton.score.preferences import has_reference, preference_rows, preferences_table
from kamerton.score.target import Target
from kamerton.score.test_set import TestSet

_INSTEAD = "leave it out, or score single completions: data.rows=completions data.test=FILE"


def preference_faults(options: EvaluateOptions, target: Target) -> list[Fault]:
    """Return faults of options that preferences, which are scored by log-probability, cannot have."""
    if target.config.data.rows not in COMPARED:
        return []
    faults = []
    if options.engine.kind != "local":
        message = f"preferences need log-probabilities, which engine={options.engine.kind} does not give"
        faults.append(Fault("config.value", message, "use engine=local", column="engine.kind"))
    if options.score is not None and options.score.mode not in ("auto", "reference"):
        message = f"preferences are scored by log-probability, not by score.mode={options.score.mode}"
        faults.append(Fault("config.value", message, _INSTEAD, column="score.mode"))
    if options.reward:
        message = "reward is set, but preferences are scored by log-probability"
        faults.append(Fault("config.value", message, f"{_INSTEAD} score.mode=generate", column="reward"))
    return faults


def score_tests(
    options: EvaluateOptions,
    target: Target,
    tests: TestSet,
    loaded: Loaded | None,
    partial: Path,
    console: Console,
) -> pa.Table:
    """Return the score table of the test set by the model, or by the engine of the options if there is none."""
    config = target.config
    rows, is_preference = len(tests.examples), config.data.rows in COMPARED
    title = f"scoring {rows:,} {'completions' if is_preference else 'examples'}"
    if loaded is None:
        with count_bar(console, title, rows) as advance:
            return engine_table(options, target, tests, partial, advance, console)
    each = passes(choose_mode(scoring(config), tests.labels, tests.examples))
    if is_preference and has_reference(config.objective):
        each = 4 if config.data.rows == "judgements" else 2
    with count_bar(console, title, rows * each) as advance:
        table = _scored(loaded.model, scoring(config), tests, loaded, partial, advance)
        return _with_reference(table, target, tests, loaded, partial, advance) if is_preference else table


def _scored(
    model: Any, options: ScoreOptions, tests: TestSet, loaded: Loaded, partial: Path, advance: Callable[[int], None]
) -> pa.Table:
    """Return the score table by `model`, laid out as `loaded`."""
    return score_split(
        model,
        tests.tokenizer,
        tests.encoded,  # type: ignore[arg-type]  # a local model's test set is tokenised
        labels=tests.labels,
        options=options,
        max_tokens=loaded.max_tokens,
        packing=loaded.packing,
        partial=partial,
        device=loaded.device,
        progress=advance,
    )


def _with_reference(
    table: pa.Table, target: Target, tests: TestSet, loaded: Loaded, partial: Path, advance: Callable[[int], None]
) -> pa.Table:
    """Return the table of pairs or judged completions, scored by the model before training as well."""
    config, data, tokenizer = target.config, tests.encoded, tests.tokenizer
    assert data is not None
    is_judged = config.data.rows == "judgements"
    where: dict[str, Any] = {"max_tokens": loaded.max_tokens, "packing": loaded.packing, "device": loaded.device}
    reference, other_reference, others = np.zeros(len(data)), np.zeros(len(data)), None
    if has_reference(config.objective):
        if is_judged:
            others = score_mismatched(loaded.model, tokenizer, data, progress=advance, **where)
        with without_training(loaded, config) as base:
            scores = _scored(base, ScoreOptions(mode="reference"), tests, loaded, partial, advance)
            reference = -scores["nll"].to_numpy()
            if is_judged:
                other_reference = score_mismatched(base, tokenizer, data, progress=advance, **where)
    rows = preference_rows(data, reference)
    return preferences_table(table, JudgedRows(rows, other_reference) if is_judged else rows, config.objective, others)
