"""Scoring of validations while a run trains (`eval.score`): the examples, the function, and its cost.

The values are those of `kamerton evaluate` for the same examples and weights: table and metrics come from the same
functions. The loss, perplexity and token accuracy that a validation logs remain those of the whole validation split.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console

from kamerton.config.rewards import build_rewards
from kamerton.config.schema import Config, ScoreOptions
from kamerton.config.validation import LOSS_METRICS, logged_metrics, scoring_mode, unlogged
from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.each_turn import has_functions
from kamerton.data.inputs import Inputs
from kamerton.data.options import COMPARED
from kamerton.data.splits.balance import sample
from kamerton.errors import Fault, UserError
from kamerton.score.custom import with_custom_metrics
from kamerton.score.divide import divided, group_ranks
from kamerton.score.evaluate import by_turn, choose_mode, passes, score_split
from kamerton.score.metrics import compute
from kamerton.score.reward_checks import reference_faults, trial_faults, unused_reward
from kamerton.train.build import count_validations
from kamerton.train.callbacks.scoring import Scorer

if TYPE_CHECKING:
    import torch

    from kamerton.run.directory import RunDirectory


def check_scoring(config: Config, inputs: Inputs) -> None:
    """Raise `UserError` if the data do not have what `eval.score`, callbacks or the objective of a sweep need."""
    labels, option, faults = inputs.prepared.labels, config.eval.score, []
    # Training on rewards scores validations by default, if there are any.
    if option is not None and "validation" not in inputs.encoded and not config.objective.generates:
        message = f"eval.score is {option}, and there is no validation split to score"
        fix = "give data.validation, or a second share in split.ratios"
        faults.append(Fault("config.value", message, fix, column="eval.score"))
    if option == "labels" and not labels:
        message = "eval.score=labels needs labels, and these completions are free text"
        fix = "set eval.score=generate, or name the labels in data.labels"
        faults.append(Fault("score.labels", message, fix, column="eval.score"))
    values = dataclasses.asdict(config)
    faults += unlogged(values, bool(labels), functions=_functions(inputs), references=_references(inputs))
    if config.data.rows not in COMPARED:  # their rewards are for the answers to `score.data`
        faults += reference_faults(values, inputs.prepared.splits)
        faults += trial_faults(values, inputs.prepared.splits)
    if config.reward:
        modes = [scoring_mode(values, bool(labels), functions=_functions(inputs))]
        if "test" in inputs.encoded:
            modes.append(choose_mode(config.score, labels, inputs.encoded["test"].examples))
        faults += unused_reward(config.reward, modes)
    if faults:
        raise UserError(faults)


def scored_examples(config: Config, inputs: Inputs) -> Encoded:
    """Return the validation examples to score: all, or a sample that depends on their ids and `split.seed` alone."""
    data, most = inputs.encoded["validation"], config.eval.sample
    if most is not None:
        data = data.select(sample(data.examples.id_numbers, most, config.split.seed))
    return by_turn(data, inputs.tokenizer)


def validation_scorer(config: Config, inputs: Inputs, run: RunDirectory, device: torch.device) -> Scorer | None:
    """Return the function that scores a validation; None if it would add no metric."""
    options, names = _options(config, inputs), _names(config, inputs)
    if options is None or not names:
        return None
    data, partial = scored_examples(config, inputs), run.path / "scores" / ".validation.partial"
    rewards = build_rewards(config, run.path)

    def score(model: Any, progress: Callable[[int], None]) -> dict[str, float]:
        ranks = group_ranks()
        table = score_split(
            model,
            inputs.tokenizer,
            data,
            labels=inputs.prepared.labels,
            options=options,
            partial=partial if ranks.size == 1 else None,
            max_tokens=int(config.batch.max_tokens),
            packing=config.batch.cut,
            device=device,
            progress=progress,
            ranks=ranks,
        )
        # One table, so rank 0 computes: a custom metric may cost time or money.
        ((_, metrics),) = divided([table], computed, ranks)
        return {name: math.nan if (value := metrics.get(name)) is None else value for name in names}

    def computed(table: pa.Table) -> dict[str, float | None]:
        partial.unlink(missing_ok=True)
        return compute(
            with_custom_metrics(table, config.metrics, config.allow_targets, rewards=rewards, intervals=False)
        )

    return Scorer(len(data) * passes(choose_mode(options, inputs.prepared.labels, data.examples)), score)


def print_scoring(console: Console, config: Config, inputs: Inputs, steps_per_epoch: int, total_steps: int) -> None:
    """Print how many examples every validation scores, and how often."""
    options = _options(config, inputs)
    if options is None:
        return
    mode = choose_mode(options, inputs.prepared.labels)
    text = "nothing beside the loss: only references, as in the test split; eval.score=generate generates answers"
    if _names(config, inputs):
        scored, total = len(scored_examples(config, inputs)), len(inputs.encoded["validation"])
        count, each = count_validations(config.eval, steps_per_epoch, total_steps), passes(mode)
        text = (
            f"{scored:,}{f' of {total:,}' if scored < total else ''} validation examples by {mode}, "
            f"{each} pass{'es' if each > 1 else ''} each; {count:,} validation{'s' if count != 1 else ''}: "
            f"{scored * each * count:,} passes"
        )
    console.print(f"score  {text}", highlight=False, soft_wrap=True)


def _options(config: Config, inputs: Inputs) -> ScoreOptions | None:
    """Return the options of `score` for validations; None if they are not scored."""
    if "validation" not in inputs.encoded:
        return None
    mode: Any = scoring_mode(dataclasses.asdict(config), bool(inputs.prepared.labels), functions=_functions(inputs))
    return None if mode is None else dataclasses.replace(config.score, mode=mode)


def _names(config: Config, inputs: Inputs) -> list[str]:
    """Return the names of the metrics that scoring adds to a validation."""
    labelled, functions, references = bool(inputs.prepared.labels), _functions(inputs), _references(inputs)
    names = logged_metrics(dataclasses.asdict(config), labelled, functions=functions, references=references)
    return [name for name in names if name not in LOSS_METRICS]


def _references(inputs: Inputs) -> bool:
    """Return whether an example of the validation split has a completion; True without validation."""
    validation = inputs.encoded.get("validation")
    return validation is None or bool(validation.examples.is_answered.any())


def _functions(inputs: Inputs) -> bool:
    """Return whether the validation split has functions to call."""
    return "validation" in inputs.encoded and has_functions(inputs.encoded["validation"].examples)
