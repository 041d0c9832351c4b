"""Skeletons of chat templates: rendered once for each sequence of roles, then filled with the turns' contents.

A template is opaque to the contents of turns if it only writes them out: no test, filter, call or comparison depends on
them, so inserting them between the fixed parts gives the same result as the template. This is determined from the
template's syntax tree; with any other template every chat is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Roles = tuple[str, ...]
_MAX_CACHED = 1024  # skeletons; a server may receive chats with any sequence of roles
_MARK = "\u0001kamerton-{}\u0001"  # stands for the content of a turn; occurs in no template


@dataclass(frozen=True)
class Skeleton:
    """The fixed parts of a chat with n turns before the completion.

    `fixed` ([n + 1]) are the texts before, between and after those turns' contents; the last of them ends the prompt.
    The completion is written between `opening` and `ending`.
    """

    fixed: tuple[str, ...]
    opening: str
    ending: str


class Skeletons:
    """The skeletons of one tokenizer's chat template, rendered on demand."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._opaque = isinstance(tokenizer.chat_template, str) and is_opaque(tokenizer.chat_template)
        self._cache: dict[Roles, Skeleton | None] = {}
        self._dropped: dict[Roles, frozenset[int] | None] = {}

    def get(self, roles: Roles) -> Skeleton | None:
        """Return the skeleton for turns with these roles before an assistant's completion; None if there is none."""
        if not self._opaque:
            return None
        if roles not in self._cache:
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            marks = [_MARK.format(i) for i in range(len(roles) + 1)]
            turns = [{"role": role, "content": mark} for role, mark in zip((*roles, "assistant"), marks, strict=True)]
            try:
                before = _split_at_marks(self._render(turns[:-1], prompt=True), marks[:-1])
                full = _split_at_marks(self._render(turns, prompt=False), marks)
            except Exception:  # a template is a program: it may raise anything; rendering the row raises it again
                before = full = None
            self._cache[roles] = None
            if before and full and full[:-2] == before[:-1] and full[-2].startswith(before[-1]):
                self._cache[roles] = Skeleton(tuple(before), full[-2][len(before[-1]) :], full[-1])
        return self._cache[roles]

    def dropped(self, roles: Roles) -> frozenset[int] | None:
        """Return the indices of the turns (the last one is the completion) that the template omits for these roles.

        None if the template refuses them.
        """
        if roles not in self._dropped:
            if len(self._dropped) >= _MAX_CACHED:
                self._dropped.clear()
            marks = [f"kamerton-{i}-turn" for i in range(len(roles))]  # plain: a template may escape contents
            turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
            try:
                text = self._render(turns, prompt=False).casefold()
                self._dropped[roles] = frozenset(i for i, mark in enumerate(marks) if mark not in text)
            except Exception:  # a template is a program: a row that it refuses is reported as such
                self._dropped[roles] = None
        return self._dropped[roles]

    def _render(self, turns: list[dict[str, str]], *, prompt: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
        return text


def _split_at_marks(text: str, marks: Sequence[str]) -> list[str] | None:
    """Return the texts around the marks; None unless each mark occurs once and in order."""
    parts = []
    for mark in marks:
        before, separator, text = text.partition(mark)
        if not separator or mark in text:
            return None
        parts.append(before)
    return [*parts, text]


def is_opaque(template: str) -> bool:
    """Return True if the template only writes contents out (see the module's docstring)."""
    import jinja2
    from jinja2 import nodes

    try:
        tree = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).parse(template)  # only read, never run
    except jinja2.TemplateError:
        return False
    writing = (nodes.Output, nodes.Add, nodes.Concat)
    harmless = (
        *(nodes.Template, nodes.TemplateData, nodes.For, nodes.If, *writing),
        *(nodes.Const, nodes.Name, nodes.Getattr, nodes.Getitem),
        *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    )

    turns = {"messages"} | {
        node.target.name for node in tree.find_all(nodes.For) if isinstance(node.target, nodes.Name)
    }

    def walk(node: nodes.Node, parent: nodes.Node, written: bool) -> Iterator[bool]:
        if _is_content(node):
            yield written
        if isinstance(node, nodes.Name) and node.name in turns:  # a turn itself must not be written or compared
            yield isinstance(parent, nodes.Getattr | nodes.Getitem | nodes.For)
        yield isinstance(node, harmless)
        inside = isinstance(node, writing) and (written or isinstance(node, nodes.Output))
        for child in node.iter_child_nodes():
            yield from walk(child, node, inside)

    return all(walk(tree, tree, False))


def _is_content(node: Any) -> bool:
    """Return whether a node is `x.content`, `x["content"]`, or an item with a computed name."""
    from jinja2 import nodes

    if isinstance(node, nodes.Getattr):
        return bool(node.attr == "content")
    if isinstance(node, nodes.Getitem):
        return not isinstance(node.arg, nodes.Const) or node.arg.value == "content"
    return False


def cut_points(special: re.Pattern[str], text: str) -> tuple[str, str, str]:
    """Split a fixed part into the text before its first special token, up to the end of its last one, and the rest."""
    matches = list(special.finditer(text))
    if not matches:
        return text, "", ""
    start, end = matches[0].start(), matches[-1].end()
    return text[:start], text[start:end], text[end:]
