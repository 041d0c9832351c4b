"""Token ids of one prompt and completion, for what is not read from a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamerton.data.encode.control import TEXT
from kamerton.data.encode.render import RenderError
from kamerton.data.encode.tokenize import Prompt, StretchTokenizer

PromptRenderer = Callable[[Prompt, str], tuple[list[int], list[int]]]


def renderer(tokenizer: Any, control_tokens: str = TEXT) -> PromptRenderer:
    """Return a function from prompt and completion to the token ids of both, exactly as in `encode`.

    Earlier turns count as prompt; `control_tokens` is that of `StretchTokenizer`. The function raises `RenderError` if
    the template refuses the chat.
    """
    stretches = StretchTokenizer(tokenizer, control_tokens)

    def split(prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
        ((before, after),) = stretches.completions(prompt, [completion])
        return before, after

    return split


def render(tokenizer: Any, prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
    """Return `renderer` for one prompt and completion."""
    return renderer(tokenizer)(prompt, completion)


def answer_ending(tokenizer: Any) -> list[int]:
    """Return the tokens of the template's text after an answer; empty if the template refuses a single question."""
    try:
        first, other = (render(tokenizer, "question", answer)[1][::-1] for answer in ("answer", "Other words!"))
    except RenderError:
        return []
    size = next((i for i, (a, b) in enumerate(zip(first, other, strict=False)) if a != b), min(len(first), len(other)))
    return first[:size][::-1]
