"""Reports in tests: a parser of their pages, and fixtures of runs, pages and a browser."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kamerton.decide.report.run import write_report
from support.chrome import Chrome, chrome
from support.synthetic import write_run

__all__ = ["Page", "browser", "make_run", "read_page", "shown_run"]


class Page(HTMLParser):
    """A report as a reader and a browser see it: texts by section, table rows, and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = defaultdict(str)
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        self.scripts: list[str] = []
        self._section = "head"
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag in ("header", "section"):
            self._section = dict(attrs).get("id") or tag
        if tag == "tr":
            self.rows[self._section].append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "td", "th", "tr"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.sections[self._section] += data
            if self._inside in ("td", "th", "small"):
                self.rows[self._section][-1][-1] += data

    def text(self, section: str) -> str:
        """The text of one section, on one line."""
        return " ".join(self.sections[section].split())


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a complete run directory; keyword arguments replace entries of run.json."""
    return lambda **changes: write_run(tmp_path, **changes)


@pytest.fixture(scope="module")
def shown_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a complete run, for tests that only read it."""
    return write_report(write_run(tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """One browser for the tests of a file."""
    with chrome() as page:
        yield page


@pytest.fixture
def read_page() -> Callable[[Path], Page]:
    """A function that parses a report."""
    return lambda path: Page(path.read_text("utf-8"))
