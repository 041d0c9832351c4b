"""Training throughput, memory and quality of Kamerton next to its peers, interleaved in one run.

    python scripts/bench/train.py --data FOLDER [--peers FOLDER] [--tasks bank-lora,bank-full] [--sides kamerton,trl]
        [--repeats 3] [--results FILE] [--out docs/benchmarks.md]

`--data` holds banking77/{train,test}.csv and gsm8k/{train,test}.jsonl; `--peers` the environments that
`scripts/bench/peers.sh` makes. Every measurement is a process of its own, with two threads, over one whole epoch; its
result is kept in `--results` as soon as it is there, and what is there already is not measured again, so an interrupted
run goes on and a finished one can be rendered anew (`--repeats 0`). `--steps N` takes the first N steps of each epoch,
to see whether everything runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from train_table import render
from train_tasks import ONCE, SIDES, TASKS, write_task

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "kamerton"
RESULTS = CACHE / "bench-train.json"
ENOUGH = 0.02  # tokens a row that a side may differ by: rounding of means


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaving this way ends the process that is measured, too
    results = load(options.results)
    results["machine"] = machine(options.threads)  # the last one is named; do not mix machines in one file
    failed: list[str] = []
    for repeat in range(options.repeats):
        for task in options.tasks:
            files = write_task(task, options.data, options.work / task, options.steps)
            if task not in results["base"]:
                results["base"][task] = held_out_loss(files, None, options)
            for side in due(task, repeat, results, options.sides):
                try:
                    result = measure(task, side, repeat, files, options)
                except RuntimeError as error:  # the others go on; what failed is measured when the command is repeated
                    failed.append(f"repeat {repeat + 1} of {task}, {side}: {error}")
                    print(failed[-1], file=sys.stderr, flush=True)
                    continue
                run = {"task": task, "side": side, "repeat": repeat, **result}
                results["runs"].append(run)
                keep(results, options.results)
                print(f"{repeat + 1} {task:<18}{side:<18}{run['examples_per_s']:6.2f} examples/s", run, flush=True)
    if options.out:
        render(results, options.out)
    if failed:
        raise SystemExit(f"{len(failed)} measurements failed; the same command goes on with them")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {"type": lambda text: text.split(",")}
    parser.add_argument("--data", type=Path, required=True, help="folder with banking77/ and gsm8k/")
    parser.add_argument("--peers", type=Path, default=CACHE / "peers")
    parser.add_argument("--tasks", default=list(TASKS), help=f"of {', '.join(TASKS)}", **names)
    parser.add_argument("--sides", default=None, help=f"of {', '.join(SIDES)}; default: those of each task", **names)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, help="only so many steps of each epoch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=CACHE / "bench-train", help="rows, models, runs")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is to be rewritten")
    options = parser.parse_args()
    options.data = options.data.resolve()
    unknown = [name for name in options.tasks if name not in TASKS] + [
        name for name in options.sides or () if name not in SIDES
    ]
    if unknown:
        parser.error(f"no such task or side: {', '.join(unknown)}")
    return options


def due(task: str, repeat: int, results: dict[str, Any], chosen: list[str] | None) -> list[str]:
    """The sides that this repeat still lacks, beginning with another one in each repeat."""
    sides = [side for side in chosen or TASKS[task].sides if repeat == 0 or side not in ONCE]
    turn = repeat % len(sides)
    done = {(run["task"], run["side"], run["repeat"]) for run in results["runs"]}
    return [side for side in sides[turn:] + sides[:turn] if (task, side, repeat) not in done]


def measure(task: str, side: str, repeat: int, files: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One epoch of one side in its own process, and the loss of what it trained on the held-out rows."""
    script, environment, flags, _ = SIDES[side]
    plan = TASKS[task]
    out = options.work / "out" / f"{task}-{side}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    job = {"kind": plan.kind, "lr": plan.lr, "batch": plan.batch, "system": plan.system, "seed": repeat + 1}
    job |= {"flags": flags, "out": str(out), **files}
    (out / "job.json").write_text(json.dumps(job))
    python = str(options.peers / environment / "bin" / "python") if environment else sys.executable
    started, busy = time.perf_counter(), busy_seconds()  # the same clock in every process of the machine
    timing = json.loads(child([python, str(HERE / "sides" / script), str(out / "job.json")], options, out / "log.txt"))
    others = (busy_seconds() - busy) / (time.perf_counter() - started) / (os.cpu_count() or 1)
    check_rows(side, timing, files)
    seconds = timing["ends"][-1] - timing["begun"]
    trained = out / "run" / "model" if script == "with_kamerton.py" else out
    result = {
        "examples_per_s": timing["rows"] / seconds,
        "seconds": seconds,
        "start_s": timing["ends"][0] - started,
        "whole_s": timing["ends"][-1] - started,
        "steps": len(timing["ends"]),
        "peak_mib": timing["peak_mib"],
        "tokens": timing["tokens"],
        "targets": timing["targets"],
        "loss": held_out_loss(files, trained, options),
        "others": max(others, 0.0),
        "step_ends": [round(end - timing["begun"], 3) for end in timing["ends"]],
    }
    shutil.rmtree(out)
    return result


def check_rows(side: str, timing: dict[str, Any], files: dict[str, Any]) -> None:
    """Raises unless a side trained on the same rows, as many tokens and as many targets as everyone."""
    rows = json.loads(Path(files["tokens"]).read_text())
    expected = {
        "rows": len(rows),
        "tokens": sum(len(row["ids"]) for row in rows) / len(rows),
        "targets": sum(len(row["ids"]) - row["prompt"] for row in rows) / len(rows),
    }
    differing = {key: (timing[key], value) for key, value in expected.items() if abs(timing[key] - value) > ENOUGH}
    if differing:
        raise RuntimeError(f"{side} did not train on what everyone trains on (found, expected): {differing}")


def held_out_loss(files: dict[str, Any], trained: Path | None, options: argparse.Namespace) -> float:
    command = [sys.executable, str(HERE / "sides" / "quality.py"), files["held_out"], files["model"]]
    log = options.work / "quality.txt"
    return float(child([*command, *([str(trained)] if trained else [])], options, log))


def child(command: list[str], options: argparse.Namespace, log: Path) -> str:
    """What a process says after RESULT; all that it says goes to `log`, and its end is printed if it fails."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **threads, **quiet}
    if command[0] != sys.executable:
        environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [command[0], "-W", "ignore", *command[1:]], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    text = done.stdout.decode(errors="replace")
    log.write_text(text)
    lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
    if done.returncode or len(lines) != 1:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{text[-4000:]}")
    return lines[0].removeprefix("RESULT ")


def busy_seconds() -> float:
    """Processor seconds that the machine spent on anything but this command and its children, since it started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    own = os.times()
    used = own.user + own.system + own.children_user + own.children_system
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK") - used


def machine(threads: int) -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    names = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line
    ]
    cores = os.cpu_count()
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": cores,
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def load(path: Path) -> dict[str, Any]:
    """What was measured before; nothing where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else {"runs": [], "base": {}, "limits": {}}  # type: ignore[no-any-return]


def keep(results: dict[str, Any], path: Path) -> None:
    """Replace the file of results, or leave the old one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1))
    partial.replace(path)


if __name__ == "__main__":
    main()
