"""Rendering: from an example to the texts that are tokenised, alternating context and target stretches.

With a chat template the prompt is the template's rendering of the turns before the completion, including its generation
prompt, exactly as at inference; the target is the rest of the full rendering (the completion, the end-of-turn token
and the text that the template writes after it). Each stretch is tokenised separately, so the prompt's tokens do not
depend on the following text. Without a chat template an example is prompt + completion + end-of-text token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kamerton.data.encode.chat_template import Turns, apply_template, plain_turn
from kamerton.data.encode.control import ControlTokens, LiteralToken
from kamerton.data.encode.conversation import Conversations, Ids
from kamerton.data.encode.fill import Filler, make_filler, nonempty
from kamerton.data.encode.forms import is_rich
from kamerton.data.encode.skeleton import Roles, Skeletons
from kamerton.data.encode.targets import Part, Stretch, Targets
from kamerton.data.encode.turns import DROPPED, TurnNote
from kamerton.data.example import DataExample, Message
from kamerton.data.parts import ALTERNATIVE, WHOLE, part_of


class RenderError(Exception):
    """The chat template (or its absence) cannot express this example."""


@dataclass(frozen=True, slots=True)
class AnnotatedStretches:
    """The sequences of an example with findings to report; `fallbacks` is what is written in the fallback form.

    If its texts contain control tokens as text (`literals`), the stretches are those of `ControlTokens.rename`.
    """

    parts: list[Part]
    literals: list[LiteralToken]
    turns: list[TurnNote]
    fallbacks: list[str]


Rendering = list[Stretch] | AnnotatedStretches | RenderError


class Renderer:
    """Renders examples for one tokenizer; `special` matches the special tokens at which texts are split.

    Strings of the tokens of `control` in texts are kept as text; with None the tokenizer parses them. `ids` returns the
    token ids of pieces of a text.
    """

    def __init__(
        self,
        tokenizer: Any,
        special: re.Pattern[str] | None,
        control: ControlTokens | None = None,
        targets: Targets | None = None,
        ids: Ids | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._special = special
        self._control = control
        self._targets = targets or Targets()
        self._skeletons = Skeletons(tokenizer)
        self.conversations = Conversations(self._skeletons, self._targets, special, ids)
        self._filled: dict[Roles, Filler | None] = {}

    def render(self, examples: Sequence[DataExample]) -> list[Rendering]:
        """Return the stretches of each example, or the error of the template."""
        control = self._control
        with_literals = {} if control is None else {i: e for i, e in enumerate(examples) if control.occur_in(e)}
        if control is None or not with_literals:
            return self._render(examples)
        marked = [control.mark_example(e) if i in with_literals else e for i, e in enumerate(examples)]
        result = self._render(marked)
        for i, example in with_literals.items():
            rendering = result[i]
            if isinstance(rendering, RenderError):
                result[i] = RenderError(control.unmark(str(rendering)))
                continue
            if not isinstance(rendering, AnnotatedStretches):
                rendering = AnnotatedStretches([Part(rendering)], [], [], [])
            parts = [
                replace(part, stretches=[(control.rename(text), target) for text, target in part.stretches])
                for part in rendering.parts
            ]
            result[i] = replace(rendering, parts=parts, literals=control.literals(example))
        return result

    def _render(self, examples: Sequence[DataExample]) -> list[Rendering]:
        if all(example.score is None for example in examples):
            return self._render_each(examples)
        sides = [completions_of(example) for example in examples]
        rendered = iter(self._render_each([side for each in sides for side in each]))
        return [_joined([next(rendered) for _ in each]) for each in sides]

    def _render_each(self, examples: Sequence[DataExample]) -> list[Rendering]:
        filled = [self._fill(example) for example in examples]
        rest = [example for example, stretches in zip(examples, filled, strict=True) if stretches is None]
        rendered = iter(self.by_template(rest))
        return [next(rendered) if stretches is None else stretches for stretches in filled]

    def shape(self, prompt: str | tuple[Message, ...]) -> tuple[str, ...] | None:
        """Return a key for prompts after which a completion is written the same; None: it depends on all of them."""
        if self.tokenizer.chat_template is None:
            return ("text",) if isinstance(prompt, str) else None
        if self._fill(DataExample(prompt, "")) is None:
            return None
        return ("text",) if isinstance(prompt, str) else tuple(turn.role for turn in prompt)

    def _fill(self, example: DataExample) -> list[Stretch] | None:
        """Return the stretches by the skeleton of the example's roles; None if there is none."""
        prompt = example.prompt
        if self.tokenizer.chat_template is None or self._targets.train_on == "calls" or example.weight != 1:
            return None
        if is_rich(example):
            return None
        if prompt == ():
            return [(example.completion, True)]
        roles = ("user",) if isinstance(prompt, str) else tuple(turn.role for turn in prompt)
        if not isinstance(prompt, str) and any(turn.role == "assistant" and turn.weight > 0 for turn in prompt):
            return None
        if roles not in self._filled:
            skeleton = self._skeletons.get(roles)
            self._filled[roles] = None if skeleton is None else make_filler(skeleton, self._special)
        filler = self._filled[roles]
        if filler is None:
            return None
        contents = (prompt,) if isinstance(prompt, str) else tuple(turn.content for turn in prompt)
        return filler(contents, example.completion)

    def by_template(self, examples: list[DataExample]) -> list[Rendering]:
        """Render by running the template; without a template an example is a prompt and a completion."""
        if self.tokenizer.chat_template is None:
            return [self._without_template(example) for example in examples]
        simple = [example for example in examples if self._is_simple(example)]
        rendered = iter(self._simple(simple))
        return [next(rendered) if self._is_simple(example) else self._conversation(example) for example in examples]

    def _is_simple(self, example: DataExample) -> bool:
        """Return whether the completion is the only target of turns that have only roles and texts."""
        if is_rich(example) or example.weight != 1 or self._targets.train_on == "calls":
            return False
        return isinstance(example.prompt, str) or not any(map(self._targets.trains, example.prompt))

    def _simple(self, examples: list[DataExample]) -> list[Rendering]:
        """Render examples whose completion is the only target, all at once."""
        before = [[plain_turn(turn.role, turn.content) for turn in example.messages[:-1]] for example in examples]
        chats = [
            [*turns, plain_turn("assistant", example.completion)]
            for turns, example in zip(before, examples, strict=True)
        ]
        try:
            prompts = apply_template(self.tokenizer, before, prompt=True)
            texts = apply_template(self.tokenizer, chats, prompt=False)
        except Exception as error:  # a template is a program: it may raise anything
            if len(examples) == 1:
                return [RenderError(f"{type(error).__name__}: {error}")]
            return [self._simple([example])[0] for example in examples]
        result: list[Rendering] = []
        for example, turns, prompt, text in zip(examples, chats, prompts, texts, strict=True):
            if not text.startswith(prompt):
                result.append(self._conversation(example))
                continue
            stretches = nonempty([(prompt, False), (text[len(prompt) :], True)])
            if self._special is not None:  # the tokenizer splits there as well; repeated pieces are tokenised once
                stretches = [(piece, target) for t, target in stretches for piece in self._special.split(t) if piece]
            notes = self._dropped_turns(turns)
            result.append(AnnotatedStretches([Part(stretches)], [], notes, []) if notes else stretches)
        return result

    def _conversation(self, example: DataExample) -> Rendering:
        """Render an example with several targets, tools, calls, reasoning or a weight."""
        if example.prompt == ():
            trained = self._targets.trains(example.messages[0])
            return AnnotatedStretches([Part([(example.completion, trained)], weight=example.weight)], [], [], [])
        try:
            parts, notes, fallbacks = self.conversations.parts(example)
        except Exception as error:  # a template is a program: it may raise anything
            return RenderError(f"{type(error).__name__}: {error}")
        if not is_rich(example):
            notes = [*self._dropped_turns([plain_turn(turn.role, turn.content) for turn in example.messages]), *notes]
        plain = len(parts) == 1 and parts[0] == Part(parts[0].stretches) and not notes and not fallbacks
        return parts[0].stretches if plain else AnnotatedStretches(parts, [], notes, fallbacks)

    def _without_template(self, example: DataExample) -> Rendering:
        if is_rich(example) or not (isinstance(example.prompt, str) or example.prompt == ()):
            return RenderError("the tokenizer has no chat template, and the example is a chat")
        before = [(example.prompt, False)] if isinstance(example.prompt, str) else []
        trained = self._targets.trains(example.messages[-1])
        part = Part([*before, (example.completion, trained)], weight=example.weight)
        return part.stretches if example.weight == 1 else AnnotatedStretches([part], [], [], [])

    def _dropped_turns(self, turns: Turns) -> list[TurnNote]:
        """Return a note for each nonblank turn that the template omits, with a role for which it writes the turn."""
        roles = tuple(turn["role"] for turn in turns)
        notes = []
        for i in sorted(self._skeletons.dropped(roles) or ()):
            if not turns[i]["content"].strip():
                continue
            if i == len(turns) - 1:
                notes.append(TurnNote(DROPPED, "completion", roles[i], None))
                continue
            for better in ("system", "user"):
                dropped = self._skeletons.dropped((*roles[:i], better, *roles[i + 1 :]))
                if dropped is not None and i not in dropped:
                    notes.append(TurnNote(DROPPED, f"turns[{i}]", roles[i], better))
                    break
            else:
                notes.append(TurnNote(DROPPED, f"turns[{i}]", roles[i], None))
        return notes


def completions_of(example: DataExample) -> list[DataExample]:
    """Return an example of preference data for each of its completions; earlier turns are context."""
    prompt = example.prompt
    if not isinstance(prompt, str):
        prompt = tuple(replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in prompt)
    parts = [WHOLE, *range(ALTERNATIVE, ALTERNATIVE + len(example.alternatives))]
    return [replace(part_of(example, part), prompt=prompt, score=None, alternatives=()) for part in parts]


def _joined(renderings: list[Rendering]) -> Rendering:
    """Return the renderings of an example's completions as the parts of one rendering."""
    parts: list[Part] = []
    notes: list[TurnNote] = []
    fallbacks: list[str] = []
    for k, rendering in enumerate(renderings):
        if isinstance(rendering, RenderError):
            return rendering
        turn = WHOLE if k == 0 else ALTERNATIVE + k - 1
        if isinstance(rendering, AnnotatedStretches):
            parts.append(replace(rendering.parts[-1], turn=turn))
            notes += [note for note in rendering.turns if note not in notes]
            fallbacks += rendering.fallbacks
        else:
            parts.append(Part(rendering, turn))
    return AnnotatedStretches(parts, [], notes, fallbacks)
