"""Caveats about the compared configurations: few examples, defective answers, different tokenizers."""

from __future__ import annotations

from collections.abc import Sequence

from kamerton.decide.compare.comparison import Notice
from kamerton.decide.compare.configurations import Group
from kamerton.decide.compare.predictions import validate_results
from kamerton.decide.compare.significance import FEW_EXAMPLES
from kamerton.score.references import incomparable

PER_TOKEN = ("loss", "perplexity", "token_accuracy")
EVALUATE = "kamerton evaluate run=ID data.test=FILE for each, then compare these evaluations"


def result_notices(groups: Sequence[Group]) -> list[Notice]:
    """Return notices about the test set and the first run of each configuration."""
    notices = []
    examples = groups[0].first.num_rows
    if examples < FEW_EXAMPLES:
        message = f"only {examples} test examples: the intervals are too narrow"
        notices.append(Notice("examples.few", message, f"test on {FEW_EXAMPLES} or more: {EVALUATE}"))
    for group in groups:
        first = group.runs[0]
        is_run = first.trained and (first.path / "run.json").exists()  # otherwise a base model or a single table
        result = validate_results(first.table, first.path if is_run else None)
        faults = (*result.errors, *result.warnings)
        notices += [Notice(fault.code, fault.message, fault.fix, group.name) for fault in faults]
    for group in groups[1:]:
        if not same_tokens(groups[0], group):
            message = f"its references have different numbers of tokens than those of {groups[0].name}"
            advice = f"{', '.join(PER_TOKEN)} are per token of each configuration's tokenizer, and are not tested"
            notices.append(Notice("tokenizers.differ", message, advice, group.name))
        if incomparable("margin", groups[0].first, group.first):
            message = (
                f"its rewards are against another reference, or scaled by another beta, than those of {groups[0].name}"
            )
            advice = "they are not tested; ranking_accuracy compares the models themselves"
            notices.append(Notice("rewards.differ", message, advice, group.name))
        if incomparable("reward", groups[0].first, group.first):
            message = f"its answers are graded by other rewards, arguments or weights than those of {groups[0].name}"
            advice = "the reward is not tested; grade both alike: kamerton evaluate run=ID reward=NAME for each"
            notices.append(Notice("rewards.differ", message, advice, group.name))
    return notices


def same_tokens(first: Group, second: Group) -> bool:
    """Return whether both count the same target tokens in every example; their tables are in the same order."""
    counts = [group.first["target_tokens"].to_pylist() for group in (first, second)]
    return any(set(column) <= {None, 0} for column in counts) or counts[0] == counts[1]
