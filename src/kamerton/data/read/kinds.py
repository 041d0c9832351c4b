"""What a column or a field of a turn is, by its name and value: the rules of `kamerton.data.read.unused`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kamerton.data.options import Columns


@dataclass(frozen=True, slots=True)
class Kind:
    """Fields that change what a row means: what would be learnt without them, and how to go on."""

    names: tuple[str, ...]
    what: str
    fix: str


KINDS = {
    "preference": Kind(
        ("chosen", "rejected", "chosen_response", "rejected_response", "preferred_output", "non_preferred_output"),
        "a pair of a better and a worse answer (preferences), which is no objective here",
        "name the answer to learn: data.columns.completion=NAME",
    ),
    "label": Kind(
        ("label", "kto_tag", "desirable", "is_desirable"),
        "false for answers that must not be learnt (unpaired preferences, KTO), and they would be",
        "",
    ),
    "media": Kind(
        ("image", "images", "video", "videos", "audio", "audios"),
        "not supported: the model would see no more than the text (and <image> as text)",
        "",
    ),
    "tools": Kind(
        ("tools", "functions", "tool_calls", "function_call"),
        "not supported: tools and calls of them are not given to the chat template",
        "",
    ),
    "reasoning": Kind(
        ("reasoning_content", "reasoning", "thinking", "thoughts"),
        "not given to the chat template: the model would be trained to answer without it",
        "write it into the answer in the form of the model template, for instance <think>…</think>",
    ),
    "weight": Kind(
        ("train", "loss_weight", "sample_weight"),
        "a weight of the row other than 1, which nothing reads: the row would be trained on in full",
        "",
    ),
    "turns": Kind(
        ("system", "system_prompt", "system_message", "history"),
        "turns before the prompt, without which another conversation would be trained on",
        "write them as turns of messages, a system prompt as the first turn",
    ),
    "answer": Kind(
        (),
        "beside a text, and perhaps what it is to be answered with: the text alone would be trained on",
        "",
    ),
}
KIND_OF = {name: kind for kind, about in KINDS.items() for name in about.names}
# Names of columns that hold a part of what is asked, whatever they hold.
INPUTS = frozenset(
    """
    context contexts passage passages document documents choices options sentence sentence1 sentence2 premise
    hypothesis article background evidence knowledge persona task
    """.split()  # noqa: SIM905
)
# Words in names of columns that say where a row is from, and how it is kept.
BOOKKEEPING = frozenset(
    """
    id ids idx index uuid guid hash digest key url uri link source src origin file filename path date time
    timestamp created updated at lang language split fold meta metadata license author user name version score
    scores quality length len tokens count num n title domain dataset dump page subset section row unnamed level
    warc perplexity attributes tags publisher published
    """.split()  # noqa: SIM905
)
PARTS = {  # types of the parts of a turn's content, by the field that holds the same elsewhere
    **dict.fromkeys(("image_url", "input_image"), "image"),
    **dict.fromkeys(("audio_url", "input_audio"), "audio"),
    **dict.fromkeys(("tool_use", "tool_result", "tool_call"), "tool_calls"),
    "video_url": "video",
    "redacted_thinking": "thinking",
}
_FALSE = ("false", "0", "no")


def kind_of(name: str, value: object, columns: Columns, alone: bool) -> str:
    """Return the kind of KINDS if a row means something else without the value; "" otherwise.

    `alone`: the row is taken for plain text, and nobody said so.
    """
    kind = KIND_OF.get(snake(name), "")
    if snake(name) == "channel" and value in ("analysis", "commentary"):
        kind = "reasoning"
    if kind == "preference" and (columns.completion or columns.messages or columns.text):
        return ""  # the user said which answer is to be learnt
    if kind == "label" and not (_is_boolean(value, numbers=snake(name) != "label") and str(value).lower() in _FALSE):
        kind = ""
    if kind == "weight" and str(value).lower() in ("true", "1", "1.0"):
        kind = ""
    if not kind and alone and _is_answer(name, value):
        return "answer"
    return kind


def may_be(what: str, name: str, value: object) -> bool:
    """Return whether a column may be the prompt or the completion (`what`): not how rows are kept, and no part of a pair."""
    words = set(snake(name).split("_"))
    if words & BOOKKEEPING or snake(name) in KIND_OF or (what == "completion" and snake(name) in INPUTS):
        return False
    return isinstance(value, str | int | float)


def _is_boolean(value: object, *, numbers: bool) -> bool:
    return isinstance(value, bool) or str(value).lower() in ("true", "false") or (numbers and value in (0, 1))


def _is_answer(name: str, value: object) -> bool:
    """Return whether a column beside a text may be its label or answer, and not bookkeeping."""
    words = set(snake(name).split("_"))
    return not words & BOOKKEEPING and isinstance(value, str | int | list)


def snake(name: str) -> str:
    """Return `kto_tag` for `KTO-tag`, `ktoTag` and the like."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower().strip("_")
