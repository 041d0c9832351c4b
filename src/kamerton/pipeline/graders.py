"""Graders among the rewards: their faults, and those of rows that they cannot grade, before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.config.rewards import grader_nodes
from kamerton.data.gate import Prepared
from kamerton.errors import Fault, UserError
from kamerton.objective.graders import paths_read, read_grader
from kamerton.objective.templates import has_path, item_of

NAMED = 20  # rows that are reported one by one


def grading_faults(section: Mapping[str, Any], prepared: Prepared) -> list[Fault]:
    """Return the faults of the graders in the section `reward`, and of the rows that one of them cannot grade.

    These lack a field that it reads, or have a completion although it is for prompts alone. The first `NAMED` are
    reported, then the number of the others.
    """
    nodes = grader_nodes(section)
    try:
        paths = dict.fromkeys(path for node in nodes for path in paths_read(read_grader(str(node["file"]))))
    except UserError as error:
        return list(error.faults)
    alone = any(node.get("prompts_alone") for node in nodes)
    found: dict[tuple[str, int], Fault] = {}
    for examples in prepared.splits.values() if paths or alone else ():
        for example, number in zip(examples, examples.rows, strict=True):
            item = item_of(example.prompt_text, example.completion or None, example.metadata)
            names = [".".join(path) for path in paths if not has_path(item, path)]
            file, row = examples.store.location(int(number))
            if names:
                message = f"the row has no {', '.join(names)}, which the grader reads"
                fix = "add it, or correct the names in the grader"
                found[file, row] = Fault("reward.field", message, fix, file, row, names[0])
            elif alone and example.is_answered:
                message = "the row ends with an answer of the assistant, and answers are generated"
                fix = "end it with the user's turn; what the grader compares with is a field of the row"
                found[file, row] = Fault("reward.answered", message, fix, file, row)
    faults = [found[place] for place in sorted(found)]
    if len(faults) > NAMED:
        message = f"{len(faults) - NAMED:,} more rows cannot be graded"
        faults[NAMED:] = [Fault("reward.field", message, "correct or remove them as well", column="data")]
    return faults
