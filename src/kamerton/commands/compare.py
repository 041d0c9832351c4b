"""`kamerton compare`: candidates against a baseline on the same examples; says, writes, and keeps the gate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kamerton.config.command import Asked, run_command
from kamerton.config.faults import Root
from kamerton.console import plain_console
from kamerton.decide.compare.options import CompareOptions, check_compare

ROOT = Root("compare", check_compare)
GATE_FAILED = 3


def compare_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and `comparison.json`; the exit code, 3 where the gate failed."""
    passed: list[bool] = []

    def job(values: dict[str, Any], asked: Asked) -> None:
        del asked
        passed.append(_compare(values))

    return run_command(arguments, job, lambda values: [], root=ROOT) or (0 if all(passed) else GATE_FAILED)


def _compare(values: dict[str, Any]) -> bool:
    """Compare, write and say it; whether the gate passed."""
    from pydantic import TypeAdapter

    from kamerton.decide.compare.comparison import write
    from kamerton.decide.compose import compare
    from kamerton.decide.report.comparison import write_comparison
    from kamerton.decide.report.terminal import print_comparison

    options = TypeAdapter(CompareOptions).validate_python(values)
    console = plain_console()
    with console.status("comparing") as status:
        comparison = compare(options, lambda what: status.update(what))
    folder = Path(options.paths.outputs) / "comparisons" / comparison.name
    path = write(comparison, folder)
    print_comparison(console, comparison)
    for what, written in (("report", write_comparison(folder)), ("result", path)):
        console.print(f"{what} {written}", highlight=False, markup=False, soft_wrap=True)
    return comparison.gate is None or comparison.gate.passed
