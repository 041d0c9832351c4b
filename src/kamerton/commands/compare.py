"""`kamerton compare`: compare candidates with a baseline on the same examples, and check the regression gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kamerton.config.command import run_command
from kamerton.config.faults import Root
from kamerton.config.jobs import JobRequest
from kamerton.console import plain_console
from kamerton.decide.compare.options import CompareOptions, GateOptions, check_compare, name_of
from kamerton.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

ROOT = Root("compare", CompareOptions, check_compare)
GATE_FAILED = 3


def compare_command(arguments: Sequence[str]) -> int:
    """Run `kamerton compare` and return its exit code, 3 if the gate failed."""
    passed: list[bool] = []
    code = run_command(arguments, partial(_compare, passed=passed), root=ROOT)
    return code or (0 if all(passed) else GATE_FAILED)


def _compare(request: JobRequest[CompareOptions], *, passed: list[bool]) -> None:
    """Compare on the test split, and also on the test set `score.data` if runs were scored on it.

    Appends to `passed` whether the gate passed.
    """
    from kamerton.decide.compose import any_scored

    options, console = request.options, plain_console()
    _compare_split(options, console, passed)
    if options.split == "test" and any_scored(options, "task"):
        console.print("\non the test set score.data:", highlight=False)
        name = f"{name_of(options)}-task"
        try:
            on_task = dataclasses.replace(options, split="task", name=name, golden=None, gate=GateOptions())
            _compare_split(on_task, console, passed)
        except UserError as error:
            reasons = "; ".join(fault.message for fault in error.faults)
            console.print(
                f"note    not compared: {reasons}", style="yellow", highlight=False, markup=False, soft_wrap=True
            )


def _compare_split(options: CompareOptions, console: Console, passed: list[bool]) -> None:
    """Run, write and print one comparison."""
    from kamerton.decide.compare.comparison import write
    from kamerton.decide.compose import compare
    from kamerton.decide.report.comparison import write_comparison
    from kamerton.decide.report.terminal import print_comparison

    with console.status("comparing") as status:
        comparison = compare(options, status.update)
    folder = Path(options.paths.outputs) / "comparisons" / comparison.name
    path = write(comparison, folder)
    print_comparison(console, comparison)
    for title, written in (("report", write_comparison(folder)), ("result", path)):
        console.print(f"{title} {written}", highlight=False, markup=False, soft_wrap=True)
    passed.append(comparison.gate is None or comparison.gate.passed)
