"""Chat templates that only put texts between fixed parts: rendered once for each sequence of roles, then filled in.

A template is opaque to the contents of turns if it does nothing with them but write them out: no test, filter, call or
comparison can then make the result depend on them, and filling them into the fixed parts gives what the template would.
That is read off the template's syntax tree; for any other template every chat is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Roles = tuple[str, ...]
_MOST = 1024  # skeletons that are remembered: a server may be sent chats of every shape
_MARK = "\u0001kamerton-{}\u0001"  # stands for the content of a turn; occurs in no template


@dataclass(frozen=True)
class Skeleton:
    """The fixed parts of a chat of n turns before the completion.

    `fixed` ([n + 1]) stands around those turns' contents; the last of them ends the prompt. The completion
    stands between `opening` and `ending`.
    """

    fixed: tuple[str, ...]
    opening: str
    ending: str


class Skeletons:
    """The skeletons of one tokenizer's chat template, made as they are needed."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._opaque = isinstance(tokenizer.chat_template, str) and is_opaque(tokenizer.chat_template)
        self._known: dict[Roles, Skeleton | None] = {}
        self._dropped: dict[Roles, frozenset[int] | None] = {}

    def get(self, roles: Roles) -> Skeleton | None:
        """Return the skeleton for turns with these roles before an assistant's completion; None: it must be rendered."""
        if not self._opaque:
            return None
        if roles not in self._known:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[roles] = self._make(roles)
        return self._known[roles]

    def dropped(self, roles: Roles) -> frozenset[int] | None:
        """Return which of the turns with these roles (the last one is the completion's) the template does not write.

        None: it refuses them.
        """
        if roles not in self._dropped:
            if len(self._dropped) >= _MOST:
                self._dropped.clear()
            marks = [f"kamerton-{i}-turn" for i in range(len(roles))]  # plain: a template may escape contents
            turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
            try:
                text = self._render(turns, prompt=False).casefold()
                self._dropped[roles] = frozenset(i for i, mark in enumerate(marks) if mark not in text)
            except Exception:  # a template is a program: a row that it refuses is reported as such
                self._dropped[roles] = None
        return self._dropped[roles]

    def _make(self, roles: Roles) -> Skeleton | None:
        marks = [_MARK.format(i) for i in range(len(roles) + 1)]
        turns = [{"role": role, "content": mark} for role, mark in zip((*roles, "assistant"), marks, strict=True)]
        try:
            prompt = self._render(turns[:-1], prompt=True)
            text = self._render(turns, prompt=False)
        except Exception:  # a template is a program: it may raise anything, and will again where that is reported
            return None
        before, whole = _parts(prompt, marks[:-1]), _parts(text, marks)
        if before is None or whole is None or whole[:-2] != before[:-1] or not whole[-2].startswith(before[-1]):
            return None
        return Skeleton(tuple(before), whole[-2][len(before[-1]) :], whole[-1])

    def _render(self, turns: list[dict[str, str]], *, prompt: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
        return text


def _parts(text: str, marks: Sequence[str]) -> list[str] | None:
    """Return what stands around the marks, if each stands there once and in order."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            return None
        parts.append(before)
    return [*parts, text]


def is_opaque(template: str) -> bool:
    """Return True if the template does nothing with contents but write them out."""
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
        if isinstance(node, nodes.Name) and node.name in turns:  # a turn as a whole is not to be written or compared
            yield isinstance(parent, nodes.Getattr | nodes.Getitem | nodes.For)
        yield isinstance(node, harmless)
        inside = isinstance(node, writing) and (written or isinstance(node, nodes.Output))
        for child in node.iter_child_nodes():
            yield from walk(child, node, inside)

    return all(walk(tree, tree, False))


def _is_content(node: Any) -> bool:
    """Return `x.content`, `x["content"]`, or an item whose name is not known."""
    from jinja2 import nodes

    if isinstance(node, nodes.Getattr):
        return bool(node.attr == "content")
    if isinstance(node, nodes.Getitem):
        return not isinstance(node.arg, nodes.Const) or node.arg.value == "content"
    return False


def cut_points(special: re.Pattern[str], text: str) -> tuple[str, str, str]:
    """Return a fixed part as what precedes its first special token, all from there to the end of its last, and the rest."""
    found = list(special.finditer(text))
    if not found:
        return text, "", ""
    return text[: found[0].start()], text[found[0].start() : found[-1].end()], text[found[-1].end() :]
