"""The completions of a preference row, each as an ordinary row of a prompt and a completion, with its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.columns.formats import CHOSEN, PROMPTS, REJECTED
from kamerton.data.read.columns.unused import is_empty
from kamerton.data.read.conversations.listed import is_spoken
from kamerton.data.read.conversations.roles import role_of
from kamerton.errors import Fault

Record = Mapping[str, Any]
CODE = "bad-preference"
JUDGED = ("label", "kto_tag", "desirable", "is_good", "thumbs_up")  # true: a desired completion
LISTS = ("completions", "responses", "answers", "outputs", "candidates", "generations")
SCORES = ("scores", "ratings", "rewards", "overall_scores")  # higher is better
RANKS = ("ranks", "ranking", "rankings")  # lower is better
TEXTS = ("completion", "response", "answer", "output", "text", "content", "generation")
COMPARED = (
    *(("response_a", "response_b"), ("answer_a", "answer_b"), ("completion_a", "completion_b"), ("A", "B")),
    *(("conversation_a", "conversation_b"), ("human_ref_A", "human_ref_B"), ("response_0", "response_1")),
    *(("response_1", "response_2"), ("output_1", "output_2"), ("response1", "response2")),
)
WINNERS = ("winner", "preference", "preferred", "better", "better_response_id", "labels", "label", "chosen")
FIX = "write prompt, chosen and rejected; or name the columns: data.columns.chosen=NAME data.columns.rejected=NAME"


@dataclass(frozen=True, slots=True)
class Side:
    """A row with one of its completions alone; `place` is where the completion is, `score` how good it is."""

    record: dict[str, Any]
    place: str
    score: float


def read_sides(record: Record, columns: Columns) -> list[Side] | Fault:
    """Return the completions of a preference row, or the fault of a row in which they are not recognised."""
    chosen = columns.chosen or _first(record, CHOSEN)
    rejected = columns.rejected or _first(record, REJECTED)
    for name, key in ((columns.chosen, "chosen"), (columns.rejected, "rejected")):
        if name and name not in record:
            return Fault("unknown-column", f"there is no column {name!r}", f"correct data.columns.{key}", column=name)
    if chosen and rejected and not isinstance(record[chosen], bool | int):
        named = [(chosen, record[chosen], 1.0), (rejected, record[rejected], 0.0)]
        return _sides(record, named, (chosen, rejected), columns)
    for read in (_ranked, _compared, _judged):
        sides = read(record, columns)
        if sides is not None:
            return sides
    if chosen or rejected:
        given, missing = ("better", "rejected") if chosen else ("worse", "chosen")
        message = f"the row has a {given} completion ({chosen or rejected}) and nothing to compare it with"
        return Fault(CODE, message, f"add {missing}, or use objective=kto with label true or false", column=missing)
    names = ", ".join(list(record)[:12])
    return Fault(CODE, f"the row has no completions to compare (columns: {names})", FIX, column="chosen")


def _judged(record: Record, columns: Columns) -> list[Side] | None:
    """Return the only completion of a row with a judgement of it."""
    name = columns.label or _first(record, JUDGED)
    if name is None or not isinstance(record[name], bool):
        return None
    rest = {key: value for key, value in record.items() if key != name}
    return [Side(rest, name, float(record[name]))]


def _ranked(record: Record, columns: Columns) -> list[Side] | Fault | None:
    """Return the completions of a list, with scores or ranks."""
    name = _first(record, LISTS)
    values = record[name] if name else None
    if name is None or not isinstance(values, list) or len(values) < 2:
        return None
    beside = _first(record, (*SCORES, *RANKS))
    if all(isinstance(value, Mapping) for value in values):
        texts = [_first(value, TEXTS) for value in values]
        key = next((k for k in ("overall_score", "score", "rating", "reward", "rank") if k in values[0]), None)
        if key is None or None in texts:
            return None
        used: tuple[str, ...] = (name,)
        contents = [value[text] for value, text in zip(values, texts, strict=True)]
        numbers, is_rank = [value.get(key) for value in values], key == "rank"
    elif beside is not None:
        key, used = beside, (name, beside)
        contents, numbers, is_rank = values, record[beside], beside in RANKS
    else:
        return None
    if not isinstance(numbers, list) or len(numbers) != len(contents) or not all(map(_is_number, numbers)):
        message = f"{key} has not one number for each of the {len(contents)} completions in {name}"
        return Fault(CODE, message, "give each completion a number", column=key)
    scores = [-float(number) if is_rank else float(number) for number in numbers]
    named = [(f"{name}[{i}]", text, score) for i, (text, score) in enumerate(zip(contents, scores, strict=True))]
    return _sides(record, named, used, columns)


def _compared(record: Record, columns: Columns) -> list[Side] | Fault | None:
    """Return two completions and the judgement which one is better."""
    pair = next((names for names in COMPARED if all(not is_empty(record.get(name)) for name in names)), None)
    winner = _first(record, tuple(name for name in WINNERS if name not in (pair or ())))
    if pair is None or winner is None:
        return None
    score = _first_wins(record[winner], pair)
    if score is None:
        message = f"{winner} is {str(record[winner])[:40]!r}, which names neither {pair[0]} nor {pair[1]} nor a tie"
        return Fault(CODE, message, "write model_a, model_b or tie", column=winner)
    named = [(pair[0], record[pair[0]], score), (pair[1], record[pair[1]], 1 - score)]
    return _sides(record, named, (*pair, winner), columns)


def _first_wins(value: object, pair: tuple[str, str]) -> float | None:
    """Return 1 if the first of two completions is better, 0 if the second is, 0.5 for a tie, None if unknown."""
    text = str(value).lower().strip()
    if text.startswith("tie") or text in ("both", "neither", "equal", "0.5"):
        return 0.5
    if pair[0].lower().endswith("ref_a") and text in ("0", "1"):  # SHP: 1 if the first is better
        return float(text)
    ends = [name.lower().rsplit("_", 1)[-1][-1:] for name in pair]  # a and b, 0 and 1, 1 and 2
    for score, name, end in ((1.0, pair[0], ends[0]), (0.0, pair[1], ends[1])):
        if text in (name.lower(), end, f"model_{end}", f"response_{end}", f"assistant_{end}"):
            return score
    return None


def _sides(
    record: Record, named: Sequence[tuple[str, Any, float]], used: Sequence[str], columns: Columns
) -> list[Side] | Fault:
    """Return a row for each completion (its place, value and score), without the columns `used`."""
    rest = {key: value for key, value in record.items() if key not in used}
    prompt = columns.prompt or columns.messages or _first(rest, PROMPTS)
    sides = []
    for place, value, score in named:
        side = _side(rest, prompt, value)
        if side is None:
            message = f"there is no prompt of {', '.join(name for name, _, _ in named[:2])}"
            fix = "add the field prompt, or name its column: data.columns.prompt=NAME"
            return Fault("missing-field", message, fix, column="prompt")
        sides.append(Side(side, place, score))
    return sides


def _side(rest: dict[str, Any], prompt: str | None, value: Any) -> dict[str, Any] | None:
    """Return a row of the prompt and one completion under the usual names; None without a prompt."""
    before = rest.get(prompt) if prompt else None
    others = {key: item for key, item in rest.items() if key != prompt}
    if isinstance(before, Mapping) and isinstance(before.get("messages"), list):  # OpenAI's input
        others |= {key: item for key, item in before.items() if key != "messages"}
        before = before["messages"]
    turns = [value] if isinstance(value, Mapping) else value
    if isinstance(turns, list) and any(_role(turn) == "user" for turn in turns):  # with the prompt
        return {**others, "messages": turns}
    if is_spoken(value):
        return {**others, "messages": value}
    if isinstance(before, list):
        return {**others, "messages": [*before, *(turns if isinstance(turns, list) else [_answer(value)])]}
    if prompt is None:
        return None
    if isinstance(turns, list):
        return {**others, "messages": [{"role": "user", "content": before}, *turns]}
    if prompt == "instruction":
        return {**others, "instruction": before, "output": value}
    return {**others, "prompt": before, "completion": value}


def _answer(value: object) -> dict[str, Any]:
    return {"role": "assistant", "content": value}


def _role(turn: object) -> str | None:
    return role_of(turn)[0] if isinstance(turn, Mapping) else None


def _first(record: Record, names: Sequence[str]) -> str | None:
    return next((name for name in names if not is_empty(record.get(name))), None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN
