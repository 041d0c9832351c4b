"""The code blocks of README.md, CONTRIBUTING.md and docs/, each with the mark that states how it is tested.

A mark is a comment that no reader sees, `<!-- test: KIND; OTHER WORD -->`: KIND for the block's commands, OTHER for
those that hold WORD. `<!-- test: every block KIND -->` at the top of a page: of its blocks without a mark. The kinds:

- `check`: every key and value of a command is checked as it stands, in this process; scripts are there, with the flags.
- `run`: the command runs, on the tiny model and small data (commands.py has the words that are added).
- `output`: the command runs, and prints what the page shows, numbers aside.
- `slow`: the same, as it stands, on the real model; in `make stress`.
- `python`: the block is executed. `file NAME`: the other blocks find it under that name.
- `server`, `client`: run in two processes, the client's as it stands but for the server's address and short answers.
- `shown by FILE`: part of an output that this test or script holds.
- `none because …`: cannot run here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "examples")
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *_PAGES)
KINDS = ("check", "run", "output", "slow", "python", "file", "server", "client", "shown", "none")
_MARK = re.compile(r"<!-- test: (.+?) -->")
_EVERY = "every block "


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block: its line, its words, and what it sets in its environment."""

    text: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A block, its first line, and its mark."""

    page: str
    line: int
    text: str
    mark: str | None

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def kind(self) -> str:
        return (self.mark or "").split(";")[0].split(" ")[0]

    @property
    def rest(self) -> str:
        """Return what follows the kind: the name of a file, or a reason."""
        return (self.mark or "").split(";")[0].partition(" ")[2]

    def commands(self, kind: str) -> list[Command]:
        """The commands of the block that are of this kind."""
        exceptions = [first.strip().partition(" ")[::2] for first in (self.mark or "").split(";")[1:]]
        return [
            first
            for first in _commands(self.text)
            if next((second for second, word in exceptions if word in first.text), self.kind) == kind
        ]


def blocks(page: str | None = None) -> list[Block]:
    """Return the blocks of a page, or those of all pages, in order."""
    paths = PAGES if page is None else [ROOT / page]
    return [block for path in paths for block in parse(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))]


def pages(has: Callable[[Block], object]) -> list[str]:
    """Return the pages with such a block."""
    return list(dict.fromkeys(block.page for block in blocks() if has(block)))


def parse(text: str, page: str) -> Iterator[Block]:
    """Fenced blocks, and those that are indented by four spaces after an empty line."""
    lines = text.splitlines()
    default = next((mark[1].removeprefix(_EVERY) for mark in _MARK.finditer(text) if mark[1].startswith(_EVERY)), None)
    mark: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        fenced = line.startswith("```")
        if not fenced and not (line.startswith("    ") and (number == 0 or not lines[number - 1])):
            match = _MARK.fullmatch(line)
            mark = match[1] if match and not match[1].startswith(_EVERY) else mark if not line else None
            number += 1
            continue
        end = number + 1
        while end < len(lines) and (lines[end] != "```" if fenced else lines[end].startswith("    ") or not lines[end]):
            end += 1
        own = lines[number + 1 : end] if fenced else [item[4:] for item in lines[number:end]]
        yield Block(page, number + 1, "\n".join(own).strip("\n"), mark or default)
        mark, number = None, end + fenced


def _commands(text: str) -> list[Command]:
    return [_command(line) for line in text.replace("\\\n", " ").splitlines() if re.sub(r"^\s*#.*", "", line).strip()]


def _command(line: str) -> Command:
    text = re.sub(r"\s+# .*$", "", line.removeprefix("$ ").strip())
    words = shlex.split(text)
    pairs = [word.partition("=")[::2] for word in words]
    count = next((at for at, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    return Command(text, tuple(words[count:]), tuple(pairs[:count]))
