"""Every code of a fault, an event and a problem: from their tables, and from the calls in the source that make them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kamerton.data.codes import CODES as DATA
from kamerton.monitor.codes import CODES as PROBLEMS

SOURCE = Path(__file__).resolve().parents[2] / "src"
_CAUSE = "(the message names the cause)"
_NAMES = {"Fault", "fault", "Check"}  # what makes a fault, with the code first


def codes_page() -> str:
    """The page `reference/codes.md`."""
    faults, events = _called(_fault), _called(_event)
    data = [f"| `{code}` | {_actions(rule.actions)} | {_cell(rule.meaning)} |" for code, rule in DATA.items()]
    parts = [
        "# Codes",
        "Generated from the code. Programs may rely on a code, and not on the wording of its message.",
        "## Faults of the data",
        "`data.policy.CODE=ACTION` chooses among the actions; the first is the default"
        " ([how-to/data.md](../how-to/data.md#choose-what-happens-to-faults)).",
        "\n".join(["| code | actions | meaning |", "| --- | --- | --- |", *data]),
        "## Other faults",
        "Faults of the configuration, of run directories, and of arguments. Each message comes with its location"
        " and a fix; `…` stands for a value. The exit code is 2, or 1 if the fault ends a started run.",
        _table(faults, "message"),
        "## Problems of a run",
        "Found by the [detectors](../how-to/monitor.md); names for `monitor.stop_on` and `monitor.ignore`.",
        "\n".join(
            [
                "| code | what is seen |",
                "| --- | --- |",
                *(f"| `{c}` | {_cell(m)} |" for c, m in PROBLEMS.items()),
            ]
        ),
        "## Events",
        "Lines of `events.jsonl`: `{time, level, code, message, evidence, advice}`. Besides these, every problem"
        " above, every warning of the data, and every new state of the run (`running`, `succeeded`, `failed`,"
        " `paused`, …) is an event with its code.",
        _table(events, "message"),
    ]
    return "\n\n".join(parts) + "\n"


def _actions(actions: tuple[str, ...]) -> str:
    return ", ".join(f"`{action}`" if at else f"**{action}**" for at, action in enumerate(actions))


def _table(messages: dict[str, list[str]], column: str) -> str:
    rows = [f"| `{code}` | {_cell('<br>'.join(messages[code]))} |" for code in sorted(messages)]
    return "\n".join([f"| code | {column} |", "| --- | --- |", *rows])


def _called(find: Callable[[ast.Call], tuple[ast.expr, ast.expr] | None]) -> dict[str, list[str]]:
    """The distinct messages of each code, in the order of the source."""
    messages: dict[str, list[str]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        for scope in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            assigned = sorted(_assigned(scope), key=lambda each: each[0])
            for call in (node for node in ast.walk(scope) if isinstance(node, ast.Call)):
                if (pair := find(call)) is not None:
                    code, message = (_text(part, assigned) for part in pair)
                    if code and "…" not in code and message not in messages.setdefault(code, []):
                        messages[code].append(message)
    return {code: [text for text in texts if text.strip("…: ")] or [_CAUSE] for code, texts in messages.items()}


def _fault(call: ast.Call) -> tuple[ast.expr, ast.expr] | None:
    """Code and message of a call that makes a fault whose code has a dot: those of the data are listed apart."""
    named = isinstance(call.func, ast.Name) and call.func.id in _NAMES and len(call.args) > 1
    code = call.args[0] if named else None
    return (code, call.args[1]) if isinstance(code, ast.Constant) and "." in str(code.value) else None


def _event(call: ast.Call) -> tuple[ast.expr, ast.expr] | None:
    """Code and message of a call that adds an event to a run."""
    named = isinstance(call.func, ast.Attribute) and call.func.attr == "event" and len(call.args) > 2
    return (call.args[1], call.args[2]) if named else None


def _assigned(scope: ast.AST) -> Iterator[tuple[int, str, ast.expr]]:
    """Line, name and value of each assignment in a function, also of several at once."""
    for node in ast.walk(scope):
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name):
            yield node.lineno, target.id, value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for name, part in zip(target.elts, value.elts, strict=True):
                if isinstance(name, ast.Name):
                    yield node.lineno, name.id, part


def _text(node: ast.expr, assigned: Sequence[tuple[int, str, ast.expr]]) -> str:
    """A text as it is written in the source, by the last assignment before it; `…` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, ()) for part in node.values)
    if isinstance(node, ast.Name):
        before = [value for line, name, value in assigned if name == node.id and line <= node.lineno]
        before = [
            value for value in before if node.id not in {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
        ]
        return _text(before[-1], ()) if before else "…"
    return "…"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<|", "&lt;|")
