"""Detecting formats by the contents of their columns: preferences, and answers in a column beside the turns.

Their answer to train on is not in the usual column; a single fault per file names the format and the setting to read
it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.columns.converted import converted_fault, converted_rows
from kamerton.data.read.columns.kinds import BOOKKEEPING, KIND_OF, snake_case
from kamerton.data.read.columns.propose import answer_field, pair_setting, template_settings
from kamerton.data.read.columns.unused import is_empty
from kamerton.data.read.conversations.listed import SEGMENTS, are_segments
from kamerton.data.read.conversations.roles import role_of
from kamerton.errors import Fault
from kamerton.shell import setting

CHOSEN = (
    "chosen",
    "accepted",
    "response_j",
    "chosen_response",
    "preferred_output",
    "chosen_messages",
    "chosen_answer",
    "upvoted_answer",
)
REJECTED = (
    "rejected",
    "response_k",
    "rejected_response",
    "non_preferred_output",
    "rejected_messages",
    "rejected_answer",
    "downvoted_answer",
)
ANSWERS = ("reference_answer", "ground_truth", "response", "answer", "completion", "output", "target")
ONE_TEXT = "{text: (.segments | map(.text) | add)}"  # of segments, for jq
MAX_WAYS = 3  # in a fix
PROMPTS = (
    "prompt",
    "question",
    "query",
    "instruction",
    "input",
    "messages",
    "conversations",
    "conversation",
    "title_body",
)


def detect_format(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return a fault for a row in such a format, if the configuration names no columns; None for other rows."""
    columns = file.columns
    named = (columns.prompt, columns.completion, columns.label, columns.messages, columns.text)
    if any((*named, file.form.prompt, file.form.completion)):
        return None
    if "input_ids" in record and not any(isinstance(value, str) for value in record.values()):
        message = "the rows are token ids (input_ids) of some tokenizer, not texts"
        fix = "give the texts that they were made from: another tokenizer reads the ids as other texts"
        return Fault("missing-field", message, fix, column="input_ids")
    return (
        _placeholder_fault(record, file)
        or _segments_fault(record, file)
        or _preference_fault(record)
        or _better_alone_fault(record)
        or _similarity_fault(record)
        or _steps_fault(record)
        or _separate_answer_fault(record, file)
        or converted_fault(record, file)
    )


def _first_filled(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if not is_empty(record.get(name))), None)


def _placeholder_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of texts with the placeholders of LLaMA-Factory's identity data."""
    texts = {name: value for name, value in record.items() if isinstance(value, str)}
    column = next((name for name, value in texts.items() if "{{name}}" in value or "{{author}}" in value), None)
    if column is None:
        return None
    path, new = shlex.quote(str(file.path)), f"new-{file.path.name}"
    fix = f"fill them in: sed 's/{{{{name}}}}/NAME/g; s/{{{{author}}}}/AUTHOR/g' {path} > {shlex.quote(new)}"
    if "instruction" in texts and "output" in texts:
        fix += "; or keep them: " + template_settings("{instruction}\\n\\n{input?}", "{output}")
    message = "the texts have the placeholders {{name}} and {{author}}, which would be learnt as they stand"
    return Fault("unclear-columns", message, fix, column=column)


def _segments_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of Axolotl's segments of a text, of which some are trained on."""
    segments = record.get(SEGMENTS)
    if not isinstance(segments, list) or not are_segments(segments):
        return None
    message = "the rows are segments of rendered texts (Axolotl's input_output), which are not read as they stand"
    fix, labels = "give their turns as messages", [part["label"] for part in segments]
    if labels == [False, True]:
        settings = template_settings("{segments[0].text}", "{segments[1].text}")
        fix += f"; or, for rows of a question and an answer without the strings of a template, add {settings}"
    elif all(labels):
        fix = f"all of them are trained on; write each row as one text: {converted_rows(ONE_TEXT, file)}"
    else:
        meaning = "parts that are not trained on are the user's turns, the others the assistant's"
        settings = setting("data.columns.messages", SEGMENTS)
        fix += f"; or, for texts without the strings of a template, add {settings} ({meaning})"
    return Fault("unclear-columns", message, fix, column=SEGMENTS)


def _preference_fault(record: Mapping[str, Any]) -> Fault | None:
    """Return the fault of a preference pair, with the setting that reads the column of better answers."""
    chosen = _first_filled(record, CHOSEN)
    if chosen is None or _first_filled(record, REJECTED) is None:
        return None
    message = "the rows are preferences (a better and a worse answer)"
    value, prompt = record[chosen], _first_filled(record, PROMPTS)
    if isinstance(value, list) and any(_role(turn) == "user" for turn in value):
        setting = f"data.columns.messages={chosen}"
    elif prompt is None:
        setting = f"data.columns.text={chosen}"
    elif prompt == "instruction" and record.get("input"):
        setting = template_settings("{instruction}\\n\\n{input?}", f"{{{chosen}}}")
    else:
        setting = pair_setting(prompt, chosen)
    fix = f"add objective=dpo to train on both; or, to train on the better answers alone, add {setting}"
    return Fault("unused-field", message, fix, column=chosen)


def _better_alone_fault(record: Mapping[str, Any]) -> Fault | None:
    """Return the fault of better answers without worse ones."""
    chosen, prompt = _first_filled(record, CHOSEN), _first_filled(record, PROMPTS)
    if chosen is None or prompt is None or _first_filled(record, ANSWERS):
        return None
    message = f"the column {chosen} has better answers, without worse ones"
    return Fault("unused-field", message, f"to train on them, add {pair_setting(prompt, chosen)}", column=chosen)


def _similarity_fault(record: Mapping[str, Any]) -> Fault | None:
    """Return the fault of texts with alike and different ones, which embeddings are trained on."""
    first = _first_filled(record, ("anchor", "query", "question"))
    positive = _first_filled(record, ("positive", "pos", "positives", "relevant_passages", "positive_passages"))
    negative = _first_filled(record, ("negative", "neg", "negatives", "hard_negatives", "negative_passages"))
    if first is None or positive is None or negative is None:
        return None
    message = "the rows are texts with alike and different ones (for embeddings), an unsupported objective"
    fix = f"to train on {positive} as the answer, add {pair_setting(first, positive)}"
    if isinstance(record[positive], list):
        settings = template_settings(f"{{{first}}}", f"{{{positive}[0]}}")
        fix = f"to train on the first of {positive} as the answer, add {settings}"
    return Fault("unused-field", message, fix, column=positive)


def _steps_fault(record: Mapping[str, Any]) -> Fault | None:
    """Return the fault of answers in steps with a judgement of each."""
    steps, labels = record.get("completions"), record.get("labels")
    prompt = _first_filled(record, PROMPTS)
    if prompt is None or not isinstance(steps, list) or not isinstance(labels, list):
        return None
    message = "the rows are answers in steps with a judgement of each, an unsupported objective"
    settings = template_settings(f"{{{prompt}}}", "{completions:lines}")
    return Fault("unused-field", message, f"to train on all steps, add {settings}", column="labels")


def _separate_answer_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of turns whose answer is in another column."""
    column = next((name for name in ("messages", "history", "chat_history") if _are_turns(record.get(name))), "")
    turns = record[column] if column else []
    answered = turns if column == "messages" else turns[-1:]
    if _are_turns(record.get("prompt")) and isinstance(record.get("reward_model"), Mapping):  # verl
        column, answer = "prompt", "reward_model"
    elif (
        not turns
        or any(_role(turn) == "assistant" for turn in answered)
        or (column != "messages" and _first_filled(record, PROMPTS))
    ):
        return None
    else:
        answer = _first_filled(record, ANSWERS) or ""
    if not answer and column != "messages":
        return None
    names = [answer] if answer else [name for name in record if name != column and _may_be_answer(name, record[name])]
    if not names or (not answer and file.form.rows == "prompts"):
        return None
    message = f"there is no assistant's turn, and the column {answer} contains the answer"
    if not answer:
        message = "there is no assistant's turn, and another column may contain the answer"
    if answer in ("reference_answer", "reward_model") and file.form.rows != "prompts":
        message += " (the form of reinforcement fine-tuning: objective=grpo)"
    ways = [f"add {_answer_settings(column, name, record[name])}" for name in names[:MAX_WAYS]]
    fix = f"to train on {'it' if answer else names[0]}, {ways[0]}"
    fix += "".join(f"; or, to train on {name}, {way}" for name, way in zip(names[1:], ways[1:], strict=False))
    return Fault("unused-field", message, fix, column=names[0])


def _may_be_answer(name: str, value: object) -> bool:
    """Return whether a column of an unknown name beside a question may be its answer."""
    words = set(snake_case(name).split("_"))
    return not is_empty(value) and not words & BOOKKEEPING and snake_case(name) not in KIND_OF and not _are_turns(value)


def _answer_settings(turns: str, name: str, value: object) -> str:
    """Return the settings that read turns as the prompt and another column as the completion."""
    if isinstance(value, str):
        return pair_setting(turns, name)
    field = answer_field(name, value)
    if isinstance(value, Mapping) and field == f"{{{name}}}":
        keys = [key for key in ANSWERS if key in value] or (list(value) if len(value) == 1 else [])
        inner = value[keys[0]] if keys else {}
        field = f"{{{name}:json}}" if isinstance(inner, Mapping | list) else f"{{{name}.{keys[0]}}}"
    elif isinstance(value, list):
        field = f"{{{name}:json}}" if any(isinstance(item, Mapping | list) for item in value) else f"{{{name}:list}}"
    return template_settings(f"{{{turns}}}", field)


def _are_turns(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_role(turn) is not None for turn in value)


def _role(turn: object) -> str | None:
    return role_of(turn)[0] if isinstance(turn, Mapping) else None
