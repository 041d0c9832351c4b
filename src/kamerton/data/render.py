"""From an example to the texts that are tokenised: stretches that are read and stretches that are trained on.

With a chat template the prompt is the template's rendering of the turns before the completion, ended by its generation
prompt, exactly as at inference; the target is the rest of the full rendering (the completion, the end-of-turn token
and what the template writes after it). Each stretch is tokenised by itself, so the prompt's tokens do not depend on
what follows. Without a chat template an example is prompt + completion + end-of-text token.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from kamerton.data.example import DataExample, Message

Stretch = tuple[str, bool]  # a text, and whether its tokens are targets
Turns = list[dict[str, str]]


class CannotRender(Exception):
    """The chat template (or its absence) cannot express this example."""


def render_batch(tokenizer: Any, examples: Sequence[DataExample]) -> list[list[Stretch] | CannotRender]:
    """The stretches of each example, or why there are none."""
    if tokenizer.chat_template is None:
        return [_without_template(example) for example in examples]
    chats = [i for i, example in enumerate(examples) if example.prompt != ()]
    result: list[list[Stretch] | CannotRender] = [[(example.completion, True)] for example in examples]
    before = [_turns_before(examples[i]) for i in chats]
    whole = [[*turns, _turn("assistant", examples[i].completion)] for i, turns in zip(chats, before, strict=True)]
    try:
        prompts = _apply(tokenizer, before, prompt=True)
        texts = _apply(tokenizer, whole, prompt=False)
    except Exception as error:  # a template is a program: it may raise anything
        if len(examples) == 1:
            return [CannotRender(f"{type(error).__name__}: {error}")]
        return [render_batch(tokenizer, [example])[0] for example in examples]
    for i, prompt, text in zip(chats, prompts, texts, strict=True):
        start = _seam(prompt, text)
        if isinstance(examples[i].prompt, str) and 0 < start < len(text):
            result[i] = [(text[:start], False), (text[start:], True)]
        else:
            earlier = _earlier_targets(tokenizer, examples[i], text[:start])
            result[i] = _stretches(text, [*earlier, (start, len(text))])
    return result


def generation_prompt_differs(tokenizer: Any) -> bool:
    """True if the template renders a finished chat so that it does not begin with the prompt given at inference."""
    if tokenizer.chat_template is None:
        return False
    turns = [_turn("user", "question")]
    (prompt,) = _apply(tokenizer, [turns], prompt=True)
    (text,) = _apply(tokenizer, [[*turns, _turn("assistant", "answer")]], prompt=False)
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


def _without_template(example: DataExample) -> list[Stretch] | CannotRender:
    if isinstance(example.prompt, str):
        return [(example.prompt, False), (example.completion, True)]
    if example.prompt == ():
        return [(example.completion, True)]
    return CannotRender("the tokenizer has no chat template, and the example is a chat")


def _seam(prompt: str, text: str) -> int:
    """Where the completion starts: after the prompt's rendering, or after what both renderings begin with."""
    return len(prompt) if text.startswith(prompt) else len(os.path.commonprefix([prompt, text]))


def _earlier_targets(tokenizer: Any, example: DataExample, text: str) -> list[tuple[int, int]]:
    """Where the earlier assistant turns with a weight stand in the rendered prompt.

    A turn ends where the rendering of the chat up to it ends; where a template renders earlier turns differently from
    last ones (dropping their reasoning), the turn ends with its content.
    """
    if isinstance(example.prompt, str):
        return []
    spans = []
    for k, turn in enumerate(example.prompt):
        if turn.role != "assistant" or turn.weight <= 0 or k == 0:
            continue
        (prompt,) = _apply(tokenizer, [_turns(example.prompt[:k])], prompt=True)
        (ended,) = _apply(tokenizer, [_turns(example.prompt[: k + 1])], prompt=False)
        start = _seam(prompt, text)
        end = len(ended) if text.startswith(ended) else _content_end(turn.content, text, start)
        if end > start:
            spans.append((start, end))
    return spans


def _content_end(content: str, text: str, start: int) -> int:
    found = text.find(content.strip(), start)
    return start if found < 0 else found + len(content.strip())


def _stretches(text: str, targets: list[tuple[int, int]]) -> list[Stretch]:
    """`text` cut at the borders of the target spans (in order of their starts)."""
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
