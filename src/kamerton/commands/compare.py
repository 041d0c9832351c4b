"""`kamerton compare`: compare candidates with a baseline on the same examples, and check the regression gate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kamerton.config.command import run_command
from kamerton.config.faults import Root
from kamerton.config.jobs import JobRequest
from kamerton.console import plain_console
from kamerton.decide.compare.options import CompareOptions, check_compare

ROOT = Root("compare", CompareOptions, check_compare)
GATE_FAILED = 3


def compare_command(arguments: Sequence[str]) -> int:
    """Run `kamerton compare` and return its exit code, 3 if the gate failed."""
    passed: list[bool] = []
    code = run_command(arguments, partial(_compare, passed=passed), root=ROOT)
    return code or (0 if all(passed) else GATE_FAILED)


def _compare(request: JobRequest[CompareOptions], *, passed: list[bool]) -> None:
    """Run, write and print the comparison; append to `passed` whether the gate passed."""
    from kamerton.decide.compare.comparison import write
    from kamerton.decide.compose import compare
    from kamerton.decide.report.comparison import write_comparison
    from kamerton.decide.report.terminal import print_comparison

    options, console = request.options, plain_console()
    with console.status("comparing") as status:
        comparison = compare(options, status.update)
    folder = Path(options.paths.outputs) / "comparisons" / comparison.name
    path = write(comparison, folder)
    print_comparison(console, comparison)
    for title, written in (("report", write_comparison(folder)), ("result", path)):
        console.print(f"{title} {written}", highlight=False, markup=False, soft_wrap=True)
    passed.append(comparison.gate is None or comparison.gate.passed)
