"""What a careful reader of a comparison should know about its sides: answers that are not sound, unlike tokenizers."""

from __future__ import annotations

from collections.abc import Sequence

from kamerton.decide.compare.comparison import Notice
from kamerton.decide.compare.predictions import validate_results
from kamerton.decide.compare.sides import Group
from kamerton.decide.compare.significance import FEW_EXAMPLES

PER_TOKEN = ("loss", "perplexity", "token_accuracy")


def about_sides(groups: Sequence[Group]) -> list[Notice]:
    """Notices about the test set and the first run of each side."""
    found = []
    examples = groups[0].first.num_rows
    if examples < FEW_EXAMPLES:
        message = f"only {examples} test examples: the intervals are too narrow to be trusted"
        found.append(Notice("examples.few", message, "score more"))
    for group in groups:
        first = group.runs[0]
        is_run = first.trained and (first.path / "run.json").exists()  # and no table of its base model, or alone
        result = validate_results(first.table, first.path if is_run else None)
        found += [Notice(one.code, one.message, one.fix, group.name) for one in (*result.errors, *result.warnings)]
    for group in groups[1:]:
        if not same_tokens(groups[0], group):
            message = f"its references have other numbers of tokens than those of {groups[0].name}"
            advice = f"{', '.join(PER_TOKEN)} are per token of each side's own tokenizer, and are not tested"
            found.append(Notice("tokenizers.differ", message, advice, group.name))
    return found


def same_tokens(one: Group, other: Group) -> bool:
    """Whether both count the same target tokens in every example (in the same order)."""
    counts = [group.first["target_tokens"].to_pylist() for group in (one, other)]
    return any(set(column) <= {None, 0} for column in counts) or counts[0] == counts[1]
