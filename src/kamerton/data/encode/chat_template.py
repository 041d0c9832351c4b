"""The tokenizer's chat template: what it writes, and whether a finished chat begins with the prompt at inference."""

from __future__ import annotations

from typing import Any

Turns = list[dict[str, str]]


def generation_prompt_differs(tokenizer: Any) -> bool:
    """Return True if the template's rendering of a finished chat does not begin with the prompt used at inference."""
    if tokenizer.chat_template is None:
        return False
    turns = [plain_turn("user", "question")]
    try:
        (prompt,) = apply_template(tokenizer, [turns], prompt=True)
        (text,) = apply_template(tokenizer, [[*turns, plain_turn("assistant", "answer")]], prompt=False)
    except Exception:  # a template is a program: it may raise anything; rows that it refuses are reported
        return False
    return not text.startswith(prompt)


def apply_template(tokenizer: Any, chats: list[Turns], *, prompt: bool) -> list[str]:
    """Return the chats as the tokenizer's template writes them; with `prompt`, up to where an answer begins."""
    if not chats:
        return []
    texts: list[str] = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=prompt)
    return texts


def plain_turn(role: str, content: str) -> dict[str, str]:
    """Return a turn for the template."""
    return {"role": role, "content": content}
