"""Label scoring next to lm-evaluation-harness: same rows, same labels, same model; speed, winners, log-probabilities.

    python scripts/bench/labels.py --data FOLDER --lm-eval PYTHON [--model FOLDER] [--rows 300] [--peer-rows 30]

`--data` holds banking77/test.csv; `--lm-eval` is the interpreter of an environment with lm-evaluation-harness 0.4.13
(`peers.sh` makes one); `--model` a tuned model in Hugging Face format, by default the embedded one, untuned. Sides
take turns, each in its own process with two threads. The harness scores only the first `--peer-rows` rows, as it
takes seconds for each; rows/s of every side count its own rows, tokenising included, loading not. Prints a table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from train_tasks import write_model

HERE = Path(__file__).parent
DOUBLE = 3  # labels whose log-probabilities differ most, worked out again in float64


def main() -> None:
    options = parse()
    rows, labels = read_rows(options.data / "banking77", options.rows)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "rows.json").write_text(json.dumps(rows))
        model = options.model or write_model(work / "models", system=True)
        common = {"model": str(model), "rows": str(work / "rows.json"), "labels": labels, "threads": options.threads}
        speeds: dict[str, list[float]] = {}
        answers: dict[str, Any] = {}
        for _ in range(options.repeats):
            for side in ("exact", "argmax", "lm-eval"):
                count = options.peer_rows if side == "lm-eval" else options.rows
                job = common | {"count": count, "mode": side, "out": str(work / f"{side}.out")}
                timing = run(side, job, options, work)
                speeds.setdefault(side, []).append(timing["rows"] / timing["seconds"])
                answers[side] = json.loads((work / f"{side}.out").read_text())
                print(f"{side:<8}{speeds[side][-1]:8.3f} rows/s, peak {timing['peak_mib']:,.0f} MiB", flush=True)
        say(speeds, answers, rows, labels, options.peer_rows)
        double(answers, common, options, work)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lm-eval", required=True, help="python of its environment")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--peer-rows", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def read_rows(folder: Path, count: int) -> tuple[list[dict[str, str]], list[str]]:
    """A fixed sample of the test set, and all labels in order."""
    with (folder / "test.csv").open(newline="") as file:
        rows = [{"prompt": row["text"], "completion": row["category"]} for row in csv.DictReader(file)]
    labels = sorted({row["completion"] for row in rows})
    return random.Random(0).sample(rows, min(count, len(rows))), labels


def run(side: str, job: dict[str, Any], options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """The result of one process."""
    file = work / f"{side}.json"
    file.write_text(json.dumps(job))
    scripts = {"lm-eval": "labels_lmeval.py", "double": "labels_double.py"}
    python = options.lm_eval if side == "lm-eval" else sys.executable
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
    environment = {**os.environ, **threads, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if side == "lm-eval":
        environment.pop("PYTHONPATH", None)
    script = HERE / "sides" / scripts.get(side, "labels_kamerton.py")
    done = subprocess.run([python, "-W", "ignore", script, file], env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or len(lines) != 1:
        raise SystemExit(f"{side} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return json.loads(lines[0].removeprefix("RESULT "))  # type: ignore[no-any-return]


def say(
    speeds: dict[str, list[float]], answers: dict[str, Any], rows: list[dict[str, str]], labels: list[str], shared: int
) -> None:
    """The table: speed, ratio to the harness, winners that differ, largest difference of a log-probability."""
    peer = answers["lm-eval"]
    right = [labels.index(row["completion"]) for row in rows]
    print("\n| side | rows/s | times lm-eval | accuracy | winners unlike exact's | largest difference from lm-eval |")
    print("| --- | --- | --- | --- | --- | --- |")
    for side, values in speeds.items():
        predicted = answers[side]["predicted"]
        accuracy = sum(a == b for a, b in zip(predicted, right, strict=False)) / len(predicted)
        unlike = sum(a != b for a, b in zip(predicted, answers["exact"]["predicted"], strict=False))
        largest = f"{max(differences(answers, shared)):.1e}" if side == "exact" else ""
        times = median(values) / median(speeds["lm-eval"])
        unlike_text = f"{unlike} of {len(predicted)}"
        print(f"| {side} | {median(values):.2f} | {times:.1f} | {accuracy:.3f} | {unlike_text} | {largest} |")
    print(f"\nthe harness's winners unlike exact's: {unlike_rows(peer, answers['exact'])}")


def differences(answers: dict[str, Any], shared: int) -> list[float]:
    """|difference| for each row and label, the newline that the harness counts with every label taken out."""
    exact, peer = answers["exact"], answers["lm-eval"]["logprobs"]
    return [
        abs(ours + exact["before"][row] - theirs)
        for row in range(shared)
        for ours, theirs in zip(exact["logprobs"][row], peer[row], strict=True)
    ]


def unlike_rows(peer: dict[str, Any], own: dict[str, Any]) -> list[int]:
    """Rows where two sides have another winner."""
    return [row for row, (a, b) in enumerate(zip(peer["predicted"], own["predicted"], strict=False)) if a != b]


def double(answers: dict[str, Any], common: dict[str, Any], options: argparse.Namespace, work: Path) -> None:
    """Which side is nearer to float64, where they differ most."""
    every = differences(answers, options.peer_rows)
    labels = len(common["labels"])
    order = sorted(range(len(every)), key=lambda place: -every[place])[:DOUBLE]
    pairs = [divmod(place, labels) for place in order]
    run("double", common | {"pairs": pairs, "out": str(work / "double.out")}, options, work)
    true = json.loads((work / "double.out").read_text())
    print("\n| row | label | exact, error | lm-eval, error |\n| --- | --- | --- | --- |")
    for (row, label), value in zip(pairs, true, strict=True):
        ours = answers["exact"]["logprobs"][row][label] - value["label"]
        theirs = answers["lm-eval"]["logprobs"][row][label] - value["label"] - value["newline"]
        print(f"| {row} | {common['labels'][label]} | {ours:.1e} | {theirs:.1e} |")


if __name__ == "__main__":
    main()
