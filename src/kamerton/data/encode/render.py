"""From an example to the texts that are tokenised: stretches that are read and stretches that are trained on.

With a chat template the prompt is the template's rendering of the turns before the completion, ended by its generation
prompt, exactly as at inference; the target is the rest of the full rendering (the completion, the end-of-turn token
and what the template writes after it). Each stretch is tokenised by itself, so the prompt's tokens do not depend on
what follows. Without a chat template an example is prompt + completion + end-of-text token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.data.encode.control import ControlTokens, Held
from kamerton.data.encode.skeleton import Roles, Skeleton, Skeletons, cut_points
from kamerton.data.encode.turns import CHANGED, DROPPED, FIRST, UNENDED, TurnNote
from kamerton.data.example import DataExample, Message

Stretch = tuple[str, bool]  # a text, and whether its tokens are targets
_Filler = Callable[[tuple[str, ...], str], list[Stretch]]
Turns = list[dict[str, str]]


class RenderError(Exception):
    """The chat template (or its absence) cannot express this example."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Stretches of an example of which there is something to report.

    If its texts hold control tokens as text (`held`), the stretches are written as `ControlTokens.shown` does.
    """

    stretches: list[Stretch]
    held: list[Held]
    turns: list[TurnNote]


class Renderer:
    """Renders examples for one tokenizer; `special` matches the special tokens at which texts are cut into pieces.

    Texts hold no tokens of `control` but as text; with None the tokenizer finds in them what it finds.
    """

    def __init__(self, tokenizer: Any, special: re.Pattern[str] | None, control: ControlTokens | None = None) -> None:
        self.tokenizer = tokenizer
        self._special = special
        self._control = control
        self._skeletons = Skeletons(tokenizer)
        self._filled: dict[Roles, _Filler | None] = {}

    def render(self, examples: Sequence[DataExample]) -> list[list[Stretch] | Noted | RenderError]:
        """Return the stretches of each example, or why there are none."""
        control = self._control
        held = {} if control is None else {i: e for i, e in enumerate(examples) if control.holds(e)}
        if control is None or not held:
            return self._render(examples)
        hidden = [control.hidden(example) if i in held else example for i, example in enumerate(examples)]
        result = self._render(hidden)
        for i, example in held.items():
            found = result[i]
            if isinstance(found, RenderError):
                result[i] = RenderError(control.restored(str(found)))
                continue
            stretches, turns = (found.stretches, found.turns) if isinstance(found, Noted) else (found, [])
            result[i] = Noted([(control.shown(text), t) for text, t in stretches], control.held(example), turns)
        return result

    def _render(self, examples: Sequence[DataExample]) -> list[list[Stretch] | Noted | RenderError]:
        result: list[list[Stretch] | Noted | RenderError | None] = [self._fill(example) for example in examples]
        rest = [i for i, found in enumerate(result) if found is None]
        for i, found in zip(rest, self.by_template([examples[i] for i in rest]), strict=True):
            result[i] = found
        return [found for found in result if found is not None]

    def shape(self, prompt: str | tuple[Message, ...]) -> tuple[str, ...] | None:
        """Return what the text of a completion depends on, apart from itself; None: on all of the prompt."""
        if self.tokenizer.chat_template is None:
            return ("text",) if isinstance(prompt, str) else None
        if self._fill(DataExample(prompt, "")) is None:
            return None
        return ("text",) if isinstance(prompt, str) else tuple(turn.role for turn in prompt)

    def _fill(self, example: DataExample) -> list[Stretch] | None:
        """Return By the skeleton of its roles, if there is one."""
        prompt = example.prompt
        if self.tokenizer.chat_template is None:
            return None
        if prompt == ():
            return [(example.completion, True)]
        roles = ("user",) if isinstance(prompt, str) else tuple(turn.role for turn in prompt)
        if not isinstance(prompt, str) and any(turn.role == "assistant" and turn.weight > 0 for turn in prompt):
            return None
        if roles not in self._filled:
            skeleton = self._skeletons.get(roles)
            self._filled[roles] = None if skeleton is None else _filler(skeleton, self._special)
        filler = self._filled[roles]
        if filler is None:
            return None
        contents = (prompt,) if isinstance(prompt, str) else tuple(turn.content for turn in prompt)
        return filler(contents, example.completion)

    def by_template(self, examples: list[DataExample]) -> list[list[Stretch] | Noted | RenderError]:
        """Return By running the template, without which there are two stretches."""
        if self.tokenizer.chat_template is None:
            return [_without_template(example) for example in examples]
        before = [_turns_before(example) for example in examples]
        whole = [[*b, _turn("assistant", e.completion)] for b, e in zip(before, examples, strict=True)]
        try:
            prompts = _apply(self.tokenizer, before, prompt=True)
            texts = _apply(self.tokenizer, whole, prompt=False)
            spans = [_spans(self.tokenizer, *item) for item in zip(examples, prompts, texts, strict=True)]
        except Exception as error:  # a template is a program: it may raise anything
            if len(examples) == 1:
                return [RenderError(f"{type(error).__name__}: {error}")]
            return [self.by_template([example])[0] for example in examples]
        result: list[list[Stretch] | Noted | RenderError] = []
        for turns, text, (targets, untrained) in zip(whole, texts, spans, strict=True):
            pieces = [piece for stretch in _stretches(text, targets) for piece in self._cut(stretch)]
            notes = [*self._dropped(turns), *untrained]
            result.append(Noted(pieces, [], notes) if notes else pieces)
        return result

    def _dropped(self, turns: Turns) -> list[TurnNote]:
        """Return the turns with a text that the template does not write, and a role with which it does."""
        roles = tuple(turn["role"] for turn in turns)
        notes = []
        for i in sorted(self._skeletons.dropped(roles) or ()):
            if turns[i]["content"].strip():
                place = f"turns[{i}]" if i < len(turns) - 1 else "completion"
                better = next((role for role in ("system", "user") if self._writes(roles, i, role)), None)
                notes.append(TurnNote(DROPPED, place, roles[i], better if i < len(turns) - 1 else None))
        return notes

    def _writes(self, roles: Roles, i: int, role: str) -> bool:
        """Return whether the template writes turn i if it has another role."""
        dropped = self._skeletons.dropped((*roles[:i], role, *roles[i + 1 :]))
        return dropped is not None and i not in dropped

    def _cut(self, stretch: Stretch) -> list[Stretch]:
        """Return a stretch cut at special tokens: the tokenizer cuts there too, and what repeats is then tokenised once."""
        text, target = stretch
        if self._special is None:
            return [stretch]
        return [(piece, target) for piece in self._special.split(text) if piece]


def _filler(skeleton: Skeleton, special: re.Pattern[str] | None) -> _Filler:
    """Return a function from contents and completion to stretches; fixed parts are cut off at their special tokens."""
    if special is None:

        def whole(contents: tuple[str, ...], completion: str) -> list[Stretch]:
            text = "".join(a + b for a, b in zip(skeleton.fixed, (*contents, ""), strict=True))
            return _nonempty([(text, False), (f"{skeleton.opening}{completion}{skeleton.ending}", True)])

        return whole
    parts = [cut_points(special, text) for text in skeleton.fixed]
    if len(parts) == 2 and all(middle for _, middle, _ in parts):  # one turn: what nearly every row is
        (a0, a1, a2), (b0, b1, b2) = parts
        head, foot = a0 + a1, b1 + b2

        def one(contents: tuple[str, ...], completion: str) -> list[Stretch]:
            target = f"{skeleton.opening}{completion}{skeleton.ending}"
            return [(head, False), (f"{a2}{contents[0]}{b0}", False), (foot, False), (target, True)]

        return one

    def many(contents: tuple[str, ...], completion: str) -> list[Stretch]:
        result: list[Stretch] = []
        text = ""
        for (before, middle, after), content in zip(parts, (*contents, ""), strict=True):
            if middle:
                result += [(text + before, False), (middle, False)]
                text = after + content
            else:
                text += before + content
        return _nonempty([*result, (text, False), (f"{skeleton.opening}{completion}{skeleton.ending}", True)])

    return many


def _nonempty(stretches: list[Stretch]) -> list[Stretch]:
    return [stretch for stretch in stretches if stretch[0]]


def _spans(
    tokenizer: Any, example: DataExample, prompt: str, text: str
) -> tuple[list[tuple[int, int]], list[TurnNote]]:
    """Return where the targets stand in the rendered text, and which turns are meant as targets and are none."""
    start = _seam(prompt, text)
    spans, untrained = _earlier_targets(tokenizer, example, text[:start])
    return [*spans, (start, len(text))], untrained


def generation_prompt_differs(tokenizer: Any) -> bool:
    """Return True if the template renders a finished chat so that it does not begin with the prompt given at inference."""
    if tokenizer.chat_template is None:
        return False
    turns = [_turn("user", "question")]
    try:
        (prompt,) = _apply(tokenizer, [turns], prompt=True)
        (text,) = _apply(tokenizer, [[*turns, _turn("assistant", "answer")]], prompt=False)
    except Exception:  # a template is a program: it may raise anything; rows that it refuses are told of
        return False
    return not text.startswith(prompt)


def _apply(tokenizer: Any, chats: list[Turns], *, prompt: bool) -> list[str]:
    if not chats:
        return []
    texts: list[str] = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=prompt)
    return texts


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _turns(messages: Sequence[Message]) -> Turns:
    return [_turn(message.role, message.content) for message in messages]


def _turns_before(example: DataExample) -> Turns:
    return [_turn("user", example.prompt)] if isinstance(example.prompt, str) else _turns(example.prompt)


def _without_template(example: DataExample) -> list[Stretch] | RenderError:
    if isinstance(example.prompt, str):
        return [(example.prompt, False), (example.completion, True)]
    if example.prompt == ():
        return [(example.completion, True)]
    return RenderError("the tokenizer has no chat template, and the example is a chat")


def _seam(prompt: str, text: str) -> int:
    """Return where the completion starts: after the prompt's rendering, or after what both renderings begin with."""
    if text.startswith(prompt):
        return len(prompt)
    return next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), min(len(prompt), len(text)))


def _earlier_targets(tokenizer: Any, example: DataExample, text: str) -> tuple[list[tuple[int, int]], list[TurnNote]]:
    """Return where the earlier assistant turns with a weight stand in the rendered prompt.

    A turn ends where the rendering of the chat up to it ends; where a template renders earlier turns differently from
    last ones (dropping their reasoning), the turn ends with its content. A note tells of each turn that is not wholly
    a target.
    """
    if isinstance(example.prompt, str):
        return [], []
    spans, notes = [], []
    for k, turn in enumerate(example.prompt):
        if turn.role != "assistant" or turn.weight <= 0:
            continue
        if k == 0:
            notes.append(TurnNote(FIRST, f"turns[{k}]"))
            continue
        (prompt,) = _apply(tokenizer, [_turns(example.prompt[:k])], prompt=True)
        (ended,) = _apply(tokenizer, [_turns(example.prompt[: k + 1])], prompt=False)
        start = _seam(prompt, text)
        whole = text.startswith(ended)
        end = len(ended) if whole else _content_end(turn.content, text, start)
        if end > start:
            spans.append((start, end))
        if not whole or end <= start:
            notes.append(TurnNote(UNENDED if end > start else CHANGED, f"turns[{k}]"))
    return spans, notes


def _content_end(content: str, text: str, start: int) -> int:
    found = text.find(content.strip(), start)
    return start if found < 0 else found + len(content.strip())


def _stretches(text: str, targets: list[tuple[int, int]]) -> list[Stretch]:
    """Return `text` cut at the borders of the target spans (in order of their starts)."""
    result: list[Stretch] = []
    at = 0
    for start, end in targets:
        start = max(start, at)
        if start > at:
            result.append((text[at:start], False))
        if end > start:
            result.append((text[start:end], True))
        at = max(at, end)
    if at < len(text):
        result.append((text[at:], False))
    return result
