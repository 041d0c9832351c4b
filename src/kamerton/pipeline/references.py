"""Faults of rewards that only the rows show: no completion to compare with, or a function that fails at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kamerton.config.check import MISSING
from kamerton.config.rewards import GRADER, build_reward, check_rewards, needs_reference, reward_nodes
from kamerton.config.schema import mapping_at
from kamerton.config.target_checks import check_targets
from kamerton.data.gate import Prepared
from kamerton.errors import Fault, RunFailed
from kamerton.objective.grading import Answered, grade


def reference_faults(values: Mapping[str, Any], prepared: Prepared) -> list[Fault]:
    """Return a fault if a reward of the configuration needs completions that rows do not have; it names the first."""
    nodes = reward_nodes(mapping_at(values, "reward"))
    names = [name for name, node in nodes.items() if needs_reference(node)]
    splits = prepared.splits.values()
    alone = [row for examples in splits for row in examples.rows[~examples.is_answered].tolist()] if names else []
    if not alone:
        return []
    file, row = min(map(next(iter(splits)).store.location, alone))
    count, total = len(set(alone)), len({row for examples in splits for row in examples.rows.tolist()})
    which = f"reward {names[0]} compares" if len(names) == 1 else f"the rewards {', '.join(names)} compare"
    message = f"{which} answers with the completion of their row, and {count:,} of {total:,} rows have none"
    fix = (
        "add the field completion, or name the column that contains it: data.columns.completion=NAME;"
        " or choose a reward that needs none, such as reward=length"
    )
    return [Fault("missing-field", message, fix, file, row, column="completion")]


def trial_faults(values: Mapping[str, Any], prepared: Prepared) -> list[Fault]:
    """Return the faults of calling each reward with the first row that has a completion, and the first that has none.

    The answer is the completion of the row, or empty. Only the first fault of a reward is returned; none if the options
    of the section have faults themselves. Graders are checked by `grading_faults`.
    """
    section, allowed = mapping_at(values, "reward"), values.get("allow_targets") or ()
    nodes = {
        name: node
        for name, node in reward_nodes(section).items()
        if node["_target_"] != GRADER and MISSING not in node.values()
    }
    if not nodes or any(check_rewards(values)) or check_targets({"reward": section}, allowed):
        return []
    rows = list(_first_rows(prepared))
    faults = []
    for name, node in nodes.items():
        reward = build_reward(name, node, allowed)
        for answered, file, row in rows:
            if answered.reference is None and needs_reference(node):
                continue  # `reference_faults` has it
            try:
                grade([reward], answered)
            except RunFailed as failed:
                fix = failed.fault.fix
                if failed.fault.code == "reward.failed":
                    fix = "correct the reward or the row: before training it is graded with its own completion"
                    if answered.reference is None:
                        fix = (
                            "correct the reward: the reference is None in rows without a completion; or name the"
                            " column of the completions: data.columns.completion=NAME"
                        )
                faults.append(dataclasses.replace(failed.fault, fix=fix, file=file, row=row))
                break
    return faults


def _first_rows(prepared: Prepared) -> Iterator[tuple[Answered, str, int]]:
    """Yield the first row with a completion and the first without one, of the first split that has any."""
    splits = [(examples, examples.is_answered) for examples in prepared.splits.values()]
    for has_completion in (True, False):
        for examples, is_answered in splits:
            positions = np.flatnonzero(is_answered == has_completion)
            if len(positions):
                position = int(positions[np.argmin(examples.rows[positions])])
                example = examples[position]
                reference = example.completion if has_completion else None
                answered = Answered(example.id, example.prompt_text, example.completion, reference, example.metadata)
                yield answered, *examples.store.location(int(examples.rows[position]))
                break
