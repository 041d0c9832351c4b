"""The benchmarks of training run: they call the code directly, which can change under them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["throughput.py", "--model", "tiny", "--steps", "4", "--side", "tree"],
        ["switches.py", "--model", "tiny", "--steps", "4", "--measure", "model.matmul=bfloat16"],
    ],
    ids=lambda command: command[0],
)
def test_a_benchmark_measures(command: list[str]) -> None:
    script, *arguments = command
    process = subprocess.run(
        [sys.executable, "-W", "ignore", BENCH / script, *arguments], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    (line,) = (line for line in process.stdout.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    assert result["examples_per_s"] > 0
    assert result["peak_mb"] > 0
