"""Render plain values as report.html, report.md and report.json.

report.html loads nothing: it includes plotly.js, figures, styles and scripts, and a content security policy forbids
everything else. Texts from data or a model are escaped: in HTML by autoescape, in Markdown by `finalize`, in figures by
plotly's JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from kamerton import words
from kamerton.files import write_text
from kamerton.report import charts

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MARKDOWN_MARKUP = re.compile(r"[\\`*|~]|(?<!\w)_|_(?!\w)|(?<=\])\(")


def write_pages(
    folder: Path, package: str, kind: str, values: Mapping[str, Any], figures: Mapping[str, go.Figure | None]
) -> Path:
    """Write report.html, report.md and report.json into `folder` and return the path of report.html.

    The templates are `kind.html.j2` and `kind.md.j2` in the folder `templates` of `package`; they may extend those of
    this package. `values` are plain values, which are also written to report.json. Figures that are None are left out.
    """
    from plotly.offline import get_plotlyjs

    page = _environment(package, autoescape=True).get_template(f"{kind}.html.j2")
    text = _environment(package, autoescape=False, finalize=_markdown).get_template(f"{kind}.md.j2")
    drawn = {name: charts.to_html(figure, f"figure-{name}") for name, figure in figures.items() if figure}
    write_text(folder / "report.json", json.dumps(jsonable(values), indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "report.md", text.render(values))
    write_text(folder / "report.html", page.render(values, figures=drawn, plotly_js=get_plotlyjs()))
    return folder / "report.html"


def jsonable(value: Any) -> Any:
    """Return plain values as JSON can hold them; non-finite numbers become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


@cache
def _environment(package: str, **options: Any) -> jinja2.Environment:
    """One for each package and kind of page: templates are compiled once in a process."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in (package, "kamerton.report")]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    environment.tests.update(branch=is_branch, grid=is_grid)
    environment.filters.update(
        number=words.number,
        signed=words.signed,
        bounds_text=words.bounds_text,
        probability=words.probability,
        plain=plain,
        moment=moment,
        words=lambda name: str(name).replace("_", " "),
        sentence=sentence,
        indented=lambda text: Markup("\n".join(f"    {line}" for line in text.splitlines())),  # Markdown code block
        title_of=lambda metric: words.TITLES.get(metric, metric),
    )
    return environment


def _markdown(value: Any) -> Any:
    """Return data as one line of Markdown with escaped markup and HTML; text marked safe is unchanged."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN_MARKUP.sub(r"\\\g<0>", text)


def plain(value: Any) -> str:
    """Return a value as text for a table cell: four significant digits, whole numbers in full, – for None."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and (value.is_integer() or abs(value) >= 1000)):
        return f"{value:,.0f}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def sentence(text: str) -> str:
    """Return `text` with a capital letter and one full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def is_branch(value: Any) -> bool:
    """Return whether nested facts need their own heading and table: a mapping, or a list of mappings."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict) and bool(value)


def is_grid(value: Any) -> bool:
    """Return whether nested facts form a table with columns: at least two mappings of plain values."""
    columns = list(value.values()) if isinstance(value, dict) else []
    return len(columns) > 1 and all(
        isinstance(column, dict) and not any(isinstance(item, dict) for item in column.values()) for column in columns
    )


def moment(time: Any) -> str | None:
    """Return an ISO 8601 time as `2026-11-22 08:00:05 UTC`; any other value as text."""
    try:
        return f"{datetime.fromisoformat(str(time)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return None if time is None else str(time)
