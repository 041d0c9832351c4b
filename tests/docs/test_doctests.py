"""The examples in the docstrings of the public names run, beside the data and the run that the pages have."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import kamerton

STARTS_A_JOB = "FineTuningManager"
FINDER = doctest.DocTestFinder(recurse=True)


def examples() -> list[object]:
    """One parameter for each public name; the one that starts processes is in the slow tier."""
    names = [name for name in kamerton.__all__ if name != "EvaluationMetrics"]  # another name of EvaluationResult
    return [pytest.param(name, marks=pytest.mark.slow if name == STARTS_A_JOB else ()) for name in names]


@pytest.mark.parametrize("name", examples())
def test_the_example_of_a_public_name_runs(
    name: str, workshop: Path, monkeypatch: pytest.MonkeyPatch, warm_jobs: None
) -> None:
    monkeypatch.chdir(workshop)
    tests = [test for test in FINDER.find(getattr(kamerton, name), name, globs={}) if test.examples]
    assert tests, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    output: list[str] = []
    for test in tests:
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)
