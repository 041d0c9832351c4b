"""Conversations with several trained turns, with tools, calls or reasoning: the sequences that train each turn.

Each trained turn is a separate target: its prompt is the template's rendering of the turns before it with the
generation prompt, and the target is what follows in the rendering that ends with the turn, so the model is trained on
what it reads and writes at inference. If one sequence holds all turns of a conversation in this way, it is one part;
otherwise (the template writes earlier turns differently, without their reasoning or end, or the turns have different
weights) every trained turn is a part. Parts share their beginnings, which the tree layout computes once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from kamerton.data.encode.fallback import CALLS, DEVELOPER, REASONING, RESULTS, TOOLS
from kamerton.data.encode.forms import ChatForm, Tools, chat_form, common_length, is_rich, render_chat
from kamerton.data.encode.omissions import Omissions, place_of
from kamerton.data.encode.skeleton import Skeletons
from kamerton.data.encode.targets import LAST, Part, Stretch, Targets, cut, without_span
from kamerton.data.encode.turns import DROPPED, FIRST, TurnNote
from kamerton.data.example import DataExample, Message

Ids = Callable[[list[str], bool], list[int]]  # the token ids of pieces of a text; the flag: it begins the sequence
Span = tuple[int, int]
_OPEN, _CLOSE = "\U000f0003", "\U000f0004"  # around the reasoning of earlier turns that is kept
_MARK = "\u0001kamerton\u0001"


class Conversations:
    """Renders conversations for one tokenizer; `special` matches the special tokens at which texts are split."""

    def __init__(
        self, skeletons: Skeletons, targets: Targets, special: re.Pattern[str] | None, ids: Ids | None
    ) -> None:
        self._skeletons, self._tokenizer = skeletons, skeletons.tokenizer
        self._targets, self._special, self._ids = targets, special, ids
        self._omissions = Omissions(self._tokenizer)
        self._tags: tuple[str, str] | None = None

    def parts(self, example: DataExample) -> tuple[list[Part], list[TurnNote], list[str]]:
        """Return the sequences of an example, findings about its turns, and the fallback forms that it has.

        Raises any exception of the template, or `ValueError`.
        """
        turns = example.messages
        form, tools = self._form(example)
        trained = [k for k, turn in enumerate(turns) if self._targets.trains(turn)]
        notes = [TurnNote(FIRST, "turns[0]")] if trained and trained[0] == 0 else []
        trained = [k for k in trained if k > 0]
        if not trained:
            return [Part([(render_chat(self._tokenizer, form, turns, tools, prompt=False), False)])], notes, []
        rendered = [
            (None if is_rich(example) else self._filled(turns, k)) or self._turn(turns, k, tools, form) for k in trained
        ]
        if is_rich(example):
            notes += self._omissions.notes(turns, tools, form)
            notes += [
                TurnNote(DROPPED, f"{place_of(turns, k)}.reasoning", "reasoning")
                for k, (_, target) in zip(trained, rendered, strict=True)
                if turns[k].reasoning.strip() not in target
            ]
        together = self._together(turns, trained, rendered)
        if together is not None:
            parts = [Part(together, _turn_number(turns, trained[-1]), turns[trained[-1]].weight)]
        else:
            parts = [
                Part(self._split(cut(prompt + target, self._spans(turns[k], prompt, target))), number, turns[k].weight)
                for k, (prompt, target) in zip(trained, rendered, strict=True)
                for number in (_turn_number(turns, k),)
            ]
        return parts, notes, _fallbacks(example, form)

    def prompt(self, example: DataExample) -> str:
        """Return the text that the model reads before it writes the completion."""
        form, tools = self._form(example)
        return self._render(form, self._context(example.messages[:-1], form), tools, prompt=True)

    def completion(self, example: DataExample) -> tuple[str, str]:
        """Return that text, and the completion's turn as the model is to write it."""
        form, tools = self._form(example)
        return self._turn(example.messages, len(example.messages) - 1, tools, form)

    def _form(self, example: DataExample) -> tuple[ChatForm, Tools]:
        form = chat_form(self._tokenizer) if is_rich(example) else ChatForm()
        return form, json.loads(example.tools) if example.tools else None

    def _render(self, form: ChatForm, turns: Sequence[Message], tools: Tools, *, prompt: bool) -> str:
        text = render_chat(self._tokenizer, form, turns, tools, prompt=prompt)
        if _OPEN in text:
            opening, closing = self._reasoning_tags(form)
            text = text.replace(_OPEN, opening).replace(_CLOSE, closing)
        return text

    def _context(self, turns: Sequence[Message], form: ChatForm) -> list[Message]:
        """Return earlier turns with their reasoning according to `data.earlier_reasoning`."""
        how = self._targets.earlier_reasoning
        if how == "drop":
            return [replace(turn, reasoning="") for turn in turns]
        if how == "keep" and any(turn.reasoning for turn in turns) and self._reasoning_tags(form) != ("", ""):
            return [
                replace(turn, reasoning="", content=f"{_OPEN}{turn.reasoning}{_CLOSE}{turn.content}")
                if turn.reasoning
                else turn
                for turn in turns
            ]
        return list(turns)

    def _reasoning_tags(self, form: ChatForm) -> tuple[str, str]:
        """Return the texts around the reasoning of a last turn; two empty ones if earlier turns have it as well.

        Raises `ValueError` if earlier turns cannot be written like last ones.
        """
        if self._tags is None:
            thought = Message("assistant", "kamerton-answer", 1.0, "kamerton-thought")
            turns = [Message("user", "kamerton-question"), thought]
            last = render_chat(self._tokenizer, form, turns, None, prompt=False)
            more = [*turns, Message("user", "kamerton-question")]
            earlier = render_chat(self._tokenizer, form, more, None, prompt=False)
            header = earlier.partition("kamerton-answer")[0]
            written, _, closing = last.partition("kamerton-answer")[0].rpartition("kamerton-thought")
            if "kamerton-thought" in header:
                self._tags = "", ""
            elif written.startswith(header):
                self._tags = written[len(header) :], closing
            else:
                raise ValueError("it cannot write the reasoning of earlier turns (data.earlier_reasoning=keep)")
        return self._tags

    def _filled(self, turns: Sequence[Message], k: int) -> tuple[str, str] | None:
        """Return the same as `_turn` by the skeleton of the roles; None if there is none."""
        skeleton = self._skeletons.get(tuple(turn.role for turn in turns[:k]))
        if skeleton is None:
            return None
        prompt = "".join(fixed + turn.content for fixed, turn in zip(skeleton.fixed, turns[:k], strict=False))
        return prompt + skeleton.fixed[-1], f"{skeleton.opening}{turns[k].content}{skeleton.ending}"

    def _turn(self, turns: Sequence[Message], k: int, tools: Tools, form: ChatForm) -> tuple[str, str]:
        """Return the prompt before turn k at inference, and the turn as the model is to write it."""
        context = self._context(turns[:k], form)
        before = self._render(form, context, tools, prompt=True)
        after = self._render(form, [*context, turns[k]], tools, prompt=False)
        if after.startswith(before):
            return before, after[len(before) :]
        other_turn = replace(turns[k], content=_MARK, reasoning=_MARK if turns[k].reasoning else "")
        other = self._render(form, [*context, other_turn], tools, prompt=False)
        begin, common = common_length(before, after), common_length(after, other)
        finished = self._render(form, context, tools, prompt=False)
        opening = before[len(finished) :] if before.startswith(finished) else ""
        if min(begin, common) < common_length(
            before, finished
        ):  # the template writes earlier turns differently before it
            at = after.rfind(opening, 0, common) if opening else -1
            return (after[:begin], after[begin:]) if at < 0 else (before, after[at + len(opening) :])
        opened, target = before[min(begin, common) :], after[min(begin, common) :]
        if opened.rfind("<think>") > opened.rfind("</think>") and "</think>" not in target:
            target = f"{turns[k].reasoning}\n</think>\n\n{target.lstrip()}"
        return before, target

    def _spans(self, turn: Message, prompt: str, target: str) -> list[Span]:
        """Return the spans of a turn's targets in `prompt + target`: without its reasoning if that is not trained on.

        Raises `ValueError` if the reasoning is not where it can be recognised.
        """
        whole = (len(prompt), len(prompt) + len(target))
        thought = turn.reasoning.strip()
        if self._targets.reasoning or not thought:
            return [whole]
        start = target.find(thought)
        if start < 0:
            raise ValueError("it changes the reasoning, which data.train_on_reasoning=false leaves out")
        end = start + len(thought)
        while start > 0 and target[start - 1].isspace():
            start -= 1
        while end < len(target) and target[end].isspace():
            end += 1
        return without_span(whole, (whole[0] + start, whole[0] + end))

    def _together(
        self, turns: Sequence[Message], trained: list[int], rendered: list[tuple[str, str]]
    ) -> list[Stretch] | None:
        """Return the stretches of one sequence in which every trained turn follows its own prompt; None if not so."""
        last_prompt, last_target = rendered[-1]
        if len({turns[k].weight for k in trained}) > 1:
            return None
        for (prompt, target), (following, _) in pairwise(rendered):
            if not (following.startswith(prompt + target) and last_prompt.startswith(following)):
                return None
        spans = [
            span
            for k, (prompt, target) in zip(trained, rendered, strict=True)
            for span in self._spans(turns[k], prompt, target)
        ]
        stretches = self._split(cut(last_prompt + last_target, spans))
        checked = [prompt for prompt, _ in rendered[1:]] if self._special is None else [last_prompt]
        if len(trained) > 1 and not all(self._begins_alike(prompt, stretches) for prompt in checked):
            return None
        return stretches

    def _begins_alike(self, prompt: str, stretches: list[Stretch]) -> bool:
        """Return whether the stretches up to the end of the prompt have the tokens of the prompt at inference."""
        whole = [text for text, _ in self._split([(prompt, False)])]
        pieces = iter(text for text, _ in stretches)
        for i, text in enumerate(whole):
            parts, size = [], 0
            while size < len(text):
                parts.append(next(pieces))
                size += len(parts[-1])
            if len(parts) > 1 and (self._ids is None or self._ids([text], i == 0) != self._ids(parts, i == 0)):
                return False
            if size != len(text):
                return False
        return True

    def _split(self, stretches: list[Stretch]) -> list[Stretch]:
        """Split stretches at special tokens, where the tokenizer splits as well; repeated pieces are tokenised once."""
        if self._special is None:
            return stretches
        return [(piece, target) for text, target in stretches for piece in self._special.split(text) if piece]


def _turn_number(turns: Sequence[Message], k: int) -> int:
    return LAST if k == len(turns) - 1 else k


def _fallbacks(example: DataExample, form: ChatForm) -> list[str]:
    """Return what the example has that is written in the fallback form."""
    turns = example.messages
    calls = [turn for turn in turns if turn.tool_calls]
    has = {
        TOOLS: bool(example.tools),
        CALLS: bool(calls),
        RESULTS: any(turn.role == "tool" for turn in turns),
        REASONING: any(turn.reasoning for turn in turns),
        DEVELOPER: any(turn.role == "developer" for turn in turns),
        "several calls in a turn": any(len(turn.tool_calls) > 1 for turn in calls),
        "text beside calls": any(turn.content for turn in calls),
    }
    return [name for name in form.missing if has.get(name)]
