"""Kinds of columns and of turn fields by name and value: the rules of `kamerton.data.read.columns.unused`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from kamerton.data.options import Columns
from kamerton.data.read.conversations.reasoning import SWITCHES


@dataclass(frozen=True, slots=True)
class Kind:
    """Fields that change the meaning of a row: their names, the effect of ignoring them, and a fix."""

    names: tuple[str, ...]
    what: str
    fix: str


KINDS = {
    "preference": Kind(
        (
            *("chosen", "rejected", "chosen_response", "rejected_response", "preferred_output", "non_preferred_output"),
            *("chosen_messages", "rejected_messages", "chosen_answer", "rejected_answer"),
        ),
        "a pair of a better and a worse answer (preferences), of which only one would be trained on",
        "add objective=dpo to train on both; or name the answer to train on: data.columns.completion=NAME",
    ),
    "label": Kind(
        ("label", "kto_tag", "desirable", "is_desirable"),
        "false for answers that must not be trained on (unpaired preferences, KTO), but they would be",
        "add objective=kto to train on both kinds of answers",
    ),
    "media": Kind(
        ("image", "images", "video", "videos", "audio", "audios"),
        "not supported: the model would see only the text (and <image> as text)",
        "train on rows of text alone",
    ),
    "tools": Kind(
        ("tools", "functions", "tool_calls", "function_call"),
        "not read in rows of this form: the model would not see them",
        "",
    ),
    "reasoning": Kind(
        ("reasoning_content", "reasoning", "thinking", "thoughts"),
        "reasoning that is not read here: the model would be trained to answer without it",
        "write it as reasoning_content, or into the answer as <think>…</think>",
    ),
    "weight": Kind(
        ("train", "loss_weight", "sample_weight", "weight"),
        "a weight other than 1 that is not read: the row would be trained on with weight 1",
        "for a weight in the loss, name the column loss_weight",
    ),
    "ranges": Kind(
        ("train_detail", "training_detail"),
        "ranges of characters to train on, which are not read: the whole turn would be trained on",
        "give turns a weight, such as train: false",
    ),
    "turns": Kind(
        ("system", "system_prompt", "system_message", "history"),
        "turns before the prompt: without them another conversation would be trained on",
        "write them as turns of messages, a system prompt as the first turn",
    ),
    "answer": Kind(
        (),
        "beside a text, and possibly its answer: the text alone would be trained on",
        "",
    ),
}
KIND_OF = {name: kind for kind, about in KINDS.items() for name in about.names}
# Names of columns that contain a part of the question, for any value.
INPUTS = frozenset(
    """
    context contexts passage passages document documents choices options sentence sentence1 sentence2 premise
    hypothesis article background evidence knowledge persona task
    support story paragraph paragraphs
    """.split()  # noqa: SIM905
)
# Words in names of columns for provenance and administration of rows.
BOOKKEEPING = frozenset(
    """
    annot id ids idx index uuid guid hash digest key url uri link source src origin file filename path date time
    timestamp created updated at lang language split fold meta metadata license author user name version score
    scores quality length len size tokens count num n forks repo repos title
    domain dataset dump page subset section row unnamed level
    warc perplexity attributes tags publisher published
    """.split()  # noqa: SIM905
)
PARTS = {  # types of content parts → the field with the same content in other formats
    **dict.fromkeys(("image_url", "input_image"), "image"),
    **dict.fromkeys(("audio_url", "input_audio"), "audio"),
    **dict.fromkeys(("inlineData", "inline_data", "fileData", "file_data", "document", "file", "input_file"), "image"),
    "video_url": "video",
    "redacted_thinking": "thinking",
}
_FALSE = ("false", "0", "no")


def kind_of(name: str, value: object, columns: Columns, alone: bool) -> str:
    """Return the key of KINDS if ignoring the value changes the meaning of the row, otherwise "".

    `alone`: the row is read as plain text without a setting that says so.
    """
    key = snake_case(name)
    kind = KIND_OF.get(key, "")
    text = str(value).lower() if kind in ("label", "weight", "reasoning") else ""
    if kind == "preference" and (columns.completion or columns.messages or columns.text):
        return ""  # the configuration names the answer to train on
    if kind == "label":
        is_boolean = isinstance(value, bool) or text in ("true", "false") or (key != "label" and value in (0, 1))
        kind = kind if is_boolean and text in _FALSE else ""
    if kind == "reasoning" and text in SWITCHES:
        kind = ""
    if kind == "weight" and text in ("true", "1", "1.0"):
        kind = ""
    is_value = isinstance(value, str | int | float | list) or (isinstance(value, dict) and key in ("label", "labels"))
    if not kind and alone and not set(key.split("_")) & BOOKKEEPING and is_value:
        return "answer"  # a label or answer beside the text
    return kind


def may_hold(what: str, name: str, value: object) -> bool:
    """Return whether a column may be the prompt or the completion (`what`), by its name and a value."""
    words = set(snake_case(name).split("_"))
    if words & BOOKKEEPING or snake_case(name) in KIND_OF or (what == "completion" and snake_case(name) in INPUTS):
        return False
    return isinstance(value, str | int | float)


@lru_cache(maxsize=2**17)  # the names of a wide table are converted several times
def snake_case(name: str) -> str:
    """Convert a name to snake case, such as `KTO-tag` or `ktoTag` to `kto_tag`."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower().strip("_")
