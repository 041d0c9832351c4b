"""Faults of rewards that only the rows show, before a model is loaded.

A row has no completion to compare with, or no field that a grader reads; or a function fails at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.config.check import MISSING
from kamerton.config.rewards import GRADER, build_reward, check_rewards, grader_nodes, needs_reference, reward_nodes
from kamerton.config.schema import mapping_at
from kamerton.config.target_checks import check_targets
from kamerton.config.targets import REWARDS
from kamerton.data.store import Examples
from kamerton.errors import Fault, RunFailed, UserError
from kamerton.objective.graders import paths_read, read_grader, reads
from kamerton.objective.grading import Answered, Reward, grade
from kamerton.objective.templates import has_path, item_of

Splits = Mapping[str, Examples]
TRIED = 100  # rows that each reward grades before training
NAMED = 20  # rows that a reward cannot grade and that are reported one by one


def reward_faults(values: Mapping[str, Any], splits: Splits) -> list[Fault]:
    """Return every fault of the rewards of a configuration with the rows of the splits."""
    graders = grading_faults(mapping_at(values, "reward"), splits)
    return [*reference_faults(values, splits), *trial_faults(values, splits), *graders]


def unused_reward(section: Mapping[str, Any], modes: Sequence[str | None]) -> list[Fault]:
    """Return a fault if there are rewards, and none of the `modes` of scoring generates answers to grade."""
    if not reward_nodes(section) or "generate" in modes:
        return []
    message = "reward is set, but no answers are generated for it"
    return [Fault("config.value", message, "add score.mode=generate, or leave it out", column="reward")]


def reference_faults(values: Mapping[str, Any], splits: Splits) -> list[Fault]:
    """Return a fault if a reward of the configuration needs completions that rows do not have; it names the first."""
    nodes = reward_nodes(mapping_at(values, "reward"))
    names = [name for name, node in nodes.items() if needs_reference(node)]
    parts = list(splits.values())
    alone = [row for examples in parts for row in examples.rows[~examples.is_answered].tolist()] if names else []
    if not alone:
        return []
    file, row = min(map(parts[0].store.location, alone))
    count, total = len(set(alone)), len({row for examples in parts for row in examples.rows.tolist()})
    which = f"reward {names[0]} compares" if len(names) == 1 else f"the rewards {', '.join(names)} compare"
    message = f"{which} answers with the completion of their row, and {count:,} of {total:,} rows have none"
    fix = (
        "add the field completion, or name the column that contains it: data.columns.completion=NAME;"
        " or choose a reward that needs none, such as reward=length"
    )
    return [Fault("missing-field", message, fix, file, row, column="completion")]


def trial_faults(values: Mapping[str, Any], splits: Splits) -> list[Fault]:
    """Return the faults of calling each reward with the first row of each kind (`_first_rows`).

    The answer is the completion of the row, or empty. Only the first fault of a reward is returned; of those that read
    completions (`label`, `number`) every completion that they cannot read. There are none if the options of the section
    have faults themselves. Graders are checked by `grading_faults`.
    """
    section, allowed = mapping_at(values, "reward"), values.get("allow_targets") or ()
    nodes = {
        name: node
        for name, node in reward_nodes(section).items()
        if node["_target_"] != GRADER and MISSING not in node.values()
    }
    if not nodes or any(check_rewards(values)) or check_targets({"reward": section}, allowed):
        return []
    rows = _first_rows(splits)
    faults: list[Fault] = []
    for name, node in nodes.items():
        reward = build_reward(name, node, allowed)
        if node["_target_"] in _READING:
            faults += _unread(reward, list(splits.values()))
            continue
        for answered, file, row in rows:
            if answered.reference is None and needs_reference(node):
                continue  # `reference_faults` has it
            try:
                grade([reward], answered)
            except RunFailed as failed:
                fix = failed.fault.fix
                if failed.fault.code == "reward.failed":
                    fix = "correct the reward or the row, which is first graded with its own completion"
                    if answered.reference is None:
                        fix = (
                            "correct the reward: the reference is None in rows without a completion; or name the"
                            " column of the completions: data.columns.completion=NAME"
                        )
                faults.append(dataclasses.replace(failed.fault, fix=fix, file=file, row=row))
                break
    return faults


_READING = (f"{REWARDS}label", f"{REWARDS}number")  # raise `ValueError` for completions that they cannot read


def _unread(reward: Reward, splits: Sequence[Examples]) -> list[Fault]:
    """Return a fault for each completion that a reward cannot compare answers with, at the first row that has it."""
    rows: dict[str, int] = {}
    for examples in splits:
        answered = examples.rows[examples.is_answered]
        for text, row in zip(examples.store.take("completion", answered).to_pylist(), answered.tolist(), strict=True):
            rows[text] = min(row, rows.get(text, row))
    faults: dict[str, Fault] = {}  # one of the options has the same message for all
    for text, row in sorted(rows.items(), key=lambda item: item[1]):
        try:
            reward.function("", "", text, {})
        except (TypeError, ValueError) as error:
            message, fix = f"reward {reward.name}: {error}", "correct the completion, or the options of the reward"
            file, line = splits[0].store.location(row)
            faults.setdefault(message, Fault("reward.failed", message, fix, file, line, "completion"))
    return _limited(list(faults.values()), "reward.failed", "more completions cannot be compared with")


def _limited(faults: list[Fault], code: str, words: str) -> list[Fault]:
    """Return the first `NAMED` faults, and one with the number of the others: `words` are about those."""
    if len(faults) <= NAMED:
        return faults
    message = f"{len(faults) - NAMED:,} {words}"
    return [*faults[:NAMED], Fault(code, message, "correct or remove them as well", column="data")]


def _first_rows(splits: Splits) -> list[tuple[Answered, str, int]]:
    """Return the first row of each kind in the order of the file, at most `TRIED`: kinds differ in whether they have a
    completion, and in the columns of their metadata that have a value.
    """
    first: dict[tuple[Any, ...], tuple[int, Examples, int]] = {}
    for examples in splits.values():
        metadata = examples.store.take("metadata", examples.rows).to_pylist()
        kinds = zip(examples.is_answered.tolist(), map(_columns_of, metadata), strict=True)
        for position, (kind, row) in enumerate(zip(kinds, examples.rows.tolist(), strict=True)):
            if kind not in first or row < first[kind][0]:
                first[kind] = row, examples, position
    rows = []
    for (has_completion, _), (row, examples, position) in first.items():
        example = examples[position]
        reference = example.completion if has_completion else None
        answered = Answered(example.id, example.prompt_text, example.completion, reference, example.metadata)
        rows.append((row, answered, *examples.store.location(row)))
    return [each[1:] for each in sorted(rows, key=lambda each: each[0])[:TRIED]]


def _columns_of(metadata: str | None) -> frozenset[str]:
    return frozenset(key for key, value in json.loads(metadata or "{}").items() if value is not None)


def grading_faults(section: Mapping[str, Any], splits: Splits) -> list[Fault]:
    """Return the faults of the graders in the section `reward`, and of the rows that one of them cannot grade.

    These lack a field or functions that it reads, or have a completion although it is for prompts alone. The first
    `NAMED` are reported, then the number of the others.
    """
    nodes = grader_nodes(section).values()
    try:
        graders = [read_grader(str(node["file"])) for node in nodes]
    except UserError as error:
        return list(error.faults)
    paths = dict.fromkeys(path for grader in graders for path in paths_read(grader))
    calls = any(reads(grader, "output_tools") for grader in graders)
    alone = any(node.get("prompts_alone") for node in nodes)
    found: dict[tuple[str, int], Fault] = {}
    for examples in splits.values() if paths or alone or calls else ():
        for example, number in zip(examples, examples.rows, strict=True):
            item = item_of(example.prompt_text, example.completion or None, example.metadata)
            names = [".".join(path) for path in paths if not has_path(item, path)]
            file, row = examples.store.location(int(number))
            if calls and not example.tools:
                message = "the row has no functions (tools) to call, and the grader reads sample.output_tools"
                fix = "add its tools, or read sample.output_text in the grader"
                found[file, row] = Fault("reward.field", message, fix, file, row, "tools")
            elif names:
                message = f"the row has no {', '.join(names)}, which the grader reads"
                fix = "add it, or correct the names in the grader"
                found[file, row] = Fault("reward.field", message, fix, file, row, names[0])
            elif alone and example.is_answered:
                message = "the row ends with an answer of the assistant, and answers are generated"
                fix = "end it with the user's turn; what the grader compares with is a field of the row"
                found[file, row] = Fault("reward.answered", message, fix, file, row)
    return _limited([found[place] for place in sorted(found)], "reward.field", "more rows cannot be graded")
