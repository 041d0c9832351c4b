"""Kamerton and TRL in turns, each measurement a process of its own: for preferences.py and rewards.py."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SIDES = Path(__file__).parent / "sides"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "kamerton"
OURS = "Kamerton"  # every other side is TRL with some of its flags

Result = dict[str, Any]


def parser_of(
    description: str | None, *, tasks: Iterable[str], flags: Iterable[str], steps: int, work: str
) -> argparse.ArgumentParser:
    """The options of such a benchmark and their defaults; `work` is a folder in the cache."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {"type": lambda text: text.split(",")}
    parser.add_argument("--trl", required=True, help="the Python of an environment with TRL")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--tasks", default=list(tasks), **names)
    parser.add_argument("--flags", default=list(flags), help="TRL's, in the first repeat", **names)
    parser.add_argument("--work", type=lambda text: Path(text).resolve(), default=CACHE / work)
    return parser


def compare(
    options: argparse.Namespace,
    write: Callable[[str], Result],
    measure: Callable[[Result, str, int], Result],
    *,
    unit: str,
    digits: int,
    last_column: tuple[str, Callable[[list[Result]], str]],
) -> None:
    """Measure every task `options.repeats` times, TRL's slower flags in the first repeat alone; print a table.

    `write` takes a task and returns its files, with which `measure` gets the side and a seed. It returns the `rate` in
    `unit` and `peak_mib`; the last column is a title and a text on all measurements of a side.
    """
    results: dict[tuple[str, str], list[Result]] = {}
    for repeat in range(options.repeats):
        for task in options.tasks:
            files = write(task)
            theirs = [f"TRL, {name}" for name in options.flags]
            if repeat:
                theirs = [max(theirs, key=lambda side: results[task, side][0]["rate"])]
            sides = [OURS, *theirs]
            for side in sides[repeat % 2 :] + sides[: repeat % 2]:
                result = measure(files, side, repeat + 1)
                results.setdefault((task, side), []).append(result)
                print(repeat + 1, task, side, f"{result['rate']:.{digits}f} {unit}", flush=True)
    title, text = last_column
    print(f"| task | side | {unit} | least to most | peak memory (MiB) | {title} |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (task, side), runs in results.items():
        rates = sorted(run["rate"] for run in runs)
        median, least, most = (f"{rate:.{digits}f}" for rate in (statistics.median(rates), rates[0], rates[-1]))
        memory = statistics.median(run["peak_mib"] for run in runs)
        print(f"| {task} | {side} | {median} | {least} to {most} | {memory:,.0f} | {text(runs)} |")


def run_side(python: str, script: str, job: Result, out: Path) -> Result:
    """Run one side in an empty folder `out`; return what it measured."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "job.json").write_text(json.dumps({**job, "out": str(out)}))
    result: Result = child(python, script, out / "job.json", out / "log.txt")
    return result


def child(python: str, script: str, job: Path, log: Path) -> Any:
    """Run a script on two threads and return the result that it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(log, "w") as errors:
        done = subprocess.run(
            [python, str(SIDES / script), str(job)],
            env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=SIDES,
        )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        log.write_text(log.read_text() + done.stdout)
        raise SystemExit(f"{script} failed; see {log}")
    return json.loads(lines[-1].removeprefix("RESULT "))
