"""The examples in the docstrings of the public names run, beside the data and the run that the pages have."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import kamerton

STARTS_A_JOB = "FineTuningManager"
NAMES = [name for name in kamerton.__all__ if name != "EvaluationMetrics"]  # another name of EvaluationResult
FINDER = doctest.DocTestFinder(recurse=True)


@pytest.mark.parametrize("name", [name for name in NAMES if name != STARTS_A_JOB])
def test_the_example_of_a_public_name_runs(name: str, workshop: Path) -> None:
    run_example(name)


@pytest.mark.slow
def test_the_example_that_starts_a_job_runs(workshop: Path, warm_jobs: None) -> None:
    run_example(STARTS_A_JOB)


def run_example(name: str) -> None:
    """Run the examples of a public name and of its methods."""
    tests = [test for test in FINDER.find(getattr(kamerton, name), name, globs={}) if test.examples]
    assert tests, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    output: list[str] = []
    for test in tests:
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)
