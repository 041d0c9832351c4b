"""The public classes and functions: signatures and docstrings of `kamerton.__all__` and of their methods."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import kamerton

_SECTION = re.compile(r"^(Args|Returns|Raises|Example):\n((?:(?:    .*)?\n?)+)", re.MULTILINE)
_MARK = "<!-- test: shown by tests/docs/test_doctests.py -->"


def python_page() -> str:
    """The page `reference/python.md`."""
    names = [name for name in kamerton.__all__ if name != "EvaluationMetrics"]
    parts = [
        "# Python\n\nGenerated from docstrings. `from kamerton import …`; names are imported when they are first used."
        " The examples run beside a file `questions.jsonl` of 120 rows and a finished run `outputs/trec/ID`.",
        *(part for name in names for part in _entry(name, getattr(kamerton, name))),
    ]
    return "\n\n".join(parts) + "\n"


def _entry(name: str, member: object) -> Iterator[str]:
    yield f"## {name}\n\n" + _call(name, member)
    yield _body(inspect.getdoc(member) or "")
    if not inspect.isclass(member):
        return
    members = [(key, value) for key, value in vars(member).items() if not key.startswith("_") and _documented(value)]
    for key, value in members:
        text = _body(inspect.getdoc(value) or "")
        yield f"### {name}.{key}\n\n" + ("" if isinstance(value, property) else _call(key, value) + "\n\n") + text


def _documented(value: object) -> bool:
    return (inspect.isfunction(value) or isinstance(value, property)) and bool(inspect.getdoc(value))


def _call(name: str, member: object) -> str:
    """The signature, with annotations as they are written in the source."""
    signature = inspect.signature(member)  # type: ignore[arg-type]
    words = [_parameter(each) for each in signature.parameters.values() if each.name != "self"]
    keyword = next(
        (at for at, each in enumerate(signature.parameters.values()) if each.kind == each.KEYWORD_ONLY), None
    )
    if keyword is not None:
        words.insert(keyword - ("self" in signature.parameters), "*")
    returned = "" if inspect.isclass(member) else f" -> {signature.return_annotation}"
    is_async = inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
    return f"`{'async ' if is_async else ''}{name}({', '.join(words)}){returned}`"


def _parameter(parameter: inspect.Parameter) -> str:
    annotation, default = parameter.annotation, parameter.default
    kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    kind = "" if annotation is parameter.empty else f": {kind}"
    shown = "…" if "factory" in repr(default) else repr(default)
    return parameter.name + kind + ("" if default is parameter.empty else f" = {shown}")


def _body(text: str) -> str:
    """A docstring as Markdown: arguments as a list, examples as code."""
    return _SECTION.sub(_section, text + "\n").strip()


def _section(match: re.Match[str]) -> str:
    title, body = match[1], inspect.cleandoc(match[2])
    if title == "Example":
        return f"{_MARK}\n```python\n{body}\n```\n"
    if title == "Returns":
        return f"**Returns:** {' '.join(body.split())}\n\n"
    items = re.split(r"\n(?=\S)", body)
    lines = [re.sub(r"^([\w, ]+):\s+", _item, " ".join(item.split())) for item in items]
    return f"**{'Arguments' if title == 'Args' else title}:**\n\n" + "\n".join(f"- {line}" for line in lines) + "\n\n"


def _item(match: re.Match[str]) -> str:
    return ", ".join(f"`{name.strip()}`" for name in match[1].split(",")) + ": "
