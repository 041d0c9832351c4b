"""Convert rewards and prompts to the grader and the file of a reinforcement job at a fine-tuning API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kamerton.config.rewards import GRADER, reward_nodes
from kamerton.config.targets import REWARDS
from kamerton.data.example import DataExample, chat_messages
from kamerton.data.store import Examples
from kamerton.errors import Fault, UserError
from kamerton.objective.graders import Grader, grader_faults, parts_of, paths_read, read_grader
from kamerton.objective.templates import item_of

ANSWER, REFERENCE = "{{sample.output_text}}", "reference_answer"  # of a row: its completion
NAMED = 20  # rows that are reported one by one
Section = Mapping[str, Any]


def grader_of(section: Section) -> Grader:
    """Return the grader of the rewards in the section `reward`: their sum with weights.

    Raises `UserError` for rewards that no grader of a fine-tuning API is the same as.
    """
    nodes, faults = reward_nodes(section), []
    parts: dict[str, Grader] = {}
    terms: list[tuple[float, str]] = []
    for name, node in nodes.items():
        own, formula, fault = _parts(name, node)
        if fault is None and set(own) & set(parts):
            fault = _fault(f"reward.{name} has a part with the name of another reward", "rename one of them", name)
        faults += [] if fault is None else [fault]
        parts |= own
        terms.append((float(node.get("weight", 1.0)), formula))
    read = {path[0] for node in nodes.values() if node["_target_"] == GRADER for path in _paths(node)}
    if REFERENCE in read and any(node["_target_"] != GRADER for node in nodes.values()):
        message = f"a grader reads {REFERENCE} of a row, and for other rewards it is the completion"
        faults.append(_fault(message, f"rename the column {REFERENCE}, and what the grader reads", REFERENCE))
    if faults:
        raise UserError(faults)
    if len(parts) == 1 and terms == [(1.0, *parts)]:
        (grader,) = parts.values()
        return grader
    formula = " + ".join(formula if weight == 1 else f"{weight!r} * ({formula})" for weight, formula in terms)
    result = {"type": "multi", "name": "reward", "graders": parts, "calculate_output": formula}
    if invalid := list(grader_faults(result, "reward")):
        raise UserError(invalid)
    return result


def _parts(name: str, node: Section) -> tuple[dict[str, Grader], str, Fault | None]:
    """Return the graders of a reward by name, and the formula of it; or the fault of a reward without."""
    if node["_target_"] == GRADER:
        grader = read_grader(str(node["file"]))
        is_multi = grader["type"] == "multi"
        return (parts_of(grader), str(grader["calculate_output"]), None) if is_multi else ({name: grader}, name, None)
    if node["_target_"] != f"{REWARDS}exact_match":
        message = f"reward.{name} is computed here only: no grader of a fine-tuning API is the same"
        fix = "choose reward=exact_match or reward=grader, or a model that is trained here (model=hub)"
        return {}, "", _fault(message, fix, name)
    check = {"type": "string_check", "name": name, "input": ANSWER, "reference": f"{{{{item.{REFERENCE}}}}}"}
    if not node.get("ignore_case"):
        return {name: {**check, "operation": "eq"}}, name, None
    # Texts that contain each other in any case are equal in any case.
    swapped = {**check, "name": f"{name}_within", "input": check["reference"], "reference": ANSWER}
    parts: dict[str, Grader] = {each["name"]: {**each, "operation": "ilike"} for each in (check, swapped)}
    return parts, " * ".join(parts), None


def line_of(section: Section) -> Callable[[DataExample], dict[str, Any]]:
    """Return the function from an example to its line: the prompt, and the fields that the grader reads."""
    nodes = reward_nodes(section).values()
    fields = dict.fromkeys(path[0] for node in nodes if node["_target_"] == GRADER for path in _paths(node))
    needs_reference = any(node["_target_"] != GRADER for node in nodes)

    def line(example: DataExample) -> dict[str, Any]:
        item = item_of(example.prompt_text, example.completion or None, example.metadata)
        tools = {"tools": json.loads(example.tools)} if example.tools else {}
        own = {name: item[name] for name in fields if name in item}
        reference = {REFERENCE: example.completion.strip()} if needs_reference else {}
        return {"messages": chat_messages(example.messages[:-1]), **tools, **own, **reference}

    return line


def check_turns(examples: Examples) -> Iterator[Fault]:
    """Yield a fault for each prompt that does not end with the user's turn, as the format has it.

    The first `NAMED` rows are reported, then the number of the others.
    """
    others = [i for i, example in enumerate(examples) if [turn.role for turn in example.messages][-2:-1] != ["user"]]
    for position in others[:NAMED]:
        file, row = examples.store.location(int(examples.rows[position]))
        message = "the prompt does not end with the user's turn, and a hosted reinforcement job answers the user"
        yield Fault("hosted.role", message, "remove the row", file=file, row=row)
    if len(others) > NAMED:
        message = f"{len(others) - NAMED:,} more prompts do not end with the user's turn"
        yield Fault("hosted.role", message, "remove them as well", column="data")


def _paths(node: Section) -> Iterable[tuple[str, ...]]:
    return paths_read(read_grader(str(node["file"])))


def _fault(message: str, fix: str, name: str) -> Fault:
    return Fault("hosted.option", message, fix, column=f"reward.{name}")
