"""Send malformed data through the gate: each input ends in a result or in faults, and every row is accounted for.

    python scripts/fuzz/data_fuzz.py [--inputs 10000] [--seed 0] [--kind NAME] [--commands 100]

Of each input: no exception but `UserError`; rows read = kept + rejected, also row by row in `rejects.jsonl`; each
fault has a known code, a message, a fix, and a place. Part of them also run as `kamerton prepare`, which exits with 0
or 2 as the gate decides. Inputs are drawn from consecutive seeds; a failure is printed with its seed. Exit code 1 if
one fails. Minutes for ten thousand, on every core.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from malformed_files import KINDS, Input, draw

from kamerton.cli import main as kamerton
from kamerton.data.codes import CODES
from kamerton.data.faults import FaultLog
from kamerton.data.gate import prepare
from kamerton.data.options import Columns, DataOptions, Source, SplitOptions
from kamerton.data.read.ingest import Reading, ingest
from kamerton.data.read.sources import find_files
from kamerton.errors import Fault, UserError

LONGEST_S = 60  # for one input
DROP = {code: "drop" for code, rule in CODES.items() if "drop" in rule.actions}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS), help="only inputs of this kind; by default all in turn")
    parser.add_argument("--commands", type=int, default=100, help="how many also run as kamerton prepare")
    arguments = parser.parse_args()
    step = len(KINDS) if arguments.kind else 1
    first = arguments.seed * step + (list(KINDS).index(arguments.kind) if arguments.kind else 0)
    seeds = range(first, first + arguments.inputs * step, step)
    every = step * max(1, arguments.inputs // max(1, arguments.commands)) if arguments.commands else 0
    began, outcomes, failed = time.perf_counter(), Counter[tuple[str, str]](), 0
    if arguments.commands:
        import kamerton.run.model  # noqa: F401 (what the command imports, once, before the processes are forked)

    with ProcessPoolExecutor() as pool:
        for seed, kind, outcome in pool.map(partial(checked, every=every), seeds, chunksize=20):
            if outcome not in ("refused", "accepted with faults", "accepted"):
                failed += 1
                print(f"seed {seed} ({kind}): {outcome}", flush=True)
                outcome = "failed"
            outcomes[kind, outcome] += 1
    for (kind, outcome), count in sorted(outcomes.items()):
        print(f"{kind:<16}{outcome:<22}{count:>7,}")
    print(f"{len(seeds):,} inputs, {failed} failed, {time.perf_counter() - began:,.0f} s")
    return 1 if failed else 0


def checked(seed: int, every: int = 0) -> tuple[int, str, str]:
    """Return the seed, its kind, and `refused`, `accepted with faults`, `accepted`, or what went wrong."""
    kind = ""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {LONGEST_S} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST_S)
    try:
        kind, drawn = draw(seed)
        with tempfile.TemporaryDirectory() as folder:
            policy = Random(seed).choice([{}, DROP])
            outcome = check(drawn, Path(folder), policy)
            signal.alarm(0)
            if every and seed % every == seed % len(KINDS) % every and "sources" not in drawn.options:
                check_command(drawn, Path(folder), refused=outcome == "refused" and not policy)
        return seed, kind, outcome
    except Exception:
        return seed, kind, traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def check(drawn: Input, folder: Path, policy: dict[str, str | None]) -> str:
    """Run an input through the gate; raises `AssertionError` if its rows or faults are not accounted for."""
    options = written(drawn, folder / "data", policy)
    row_faults = check_rows(options)
    try:
        prepared = prepare(options, SplitOptions(), cache=folder / "cache")
    except UserError as error:
        check_refusal(error)
        return "refused"
    report = prepared.report
    counts, rejected = report["counts"], sum(report["rejected"].values())
    kept = sum(map(len, prepared.splits.values()))
    kept += counts.get("train rows sampled out", 0) - counts.get("train rows repeated", 0)  # weights of sources
    assert counts["rows read"] == kept + rejected, f"{counts} and {report['rejected']}"
    file = prepared.folder / "rejects.jsonl"
    listed = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    dropped = sum(row["action"] == "dropped" for row in listed)
    assert dropped == rejected, f"{dropped} dropped rows are listed, and {rejected} are counted"
    assert all(row["file"] and row["codes"] for row in listed), "a listed row has no place or no reason"
    return "accepted with faults" if row_faults or listed else "accepted"


def check_rows(options: DataOptions) -> int:
    """Read every row alone; each is kept or rejected. Return the number of faults."""
    files, faults = find_files(options)
    check_faults(faults)
    if any(fault.severity == "error" for fault in faults):
        return len(faults)
    log, reading = FaultLog(options.policy), Reading()
    kept = sum(1 for _ in ingest(files, log, reading))
    read, rejected = sum(reading.rows.values()), sum(log.rejected.values())
    assert read == kept + rejected, f"{read} rows are read, {kept} kept and {rejected} rejected"
    assert kept or rejected or log.errors, "no row is left, and nothing is reported"
    check_faults(log.kept)
    return len(log.kept)


def check_refusal(refusal: UserError) -> None:
    check_faults(refusal.faults)
    assert any(fault.severity == "error" for fault in refusal.faults), "refused without an error"


def check_faults(faults: Any) -> None:
    """Each fault has a known code, a message, a fix and a place."""
    for fault in faults:
        assert isinstance(fault, Fault)
        assert fault.code in CODES, f"unknown code: {fault}"
        assert fault.message, fault
        assert fault.fix, fault
        assert fault.where, f"without a place: {fault}"
        str(fault).encode()  # can be printed


def check_command(drawn: Input, folder: Path, *, refused: bool) -> None:
    """`kamerton prepare` exits with 0 or 2 without a traceback, and with 2 for what the gate refuses."""
    options = written(drawn, folder / "again", {})
    words = [f"paths.outputs={folder / 'outputs'}"]
    for key in ("path", "train", "validation", "test", "format", "records", "encoding", "rows"):
        if (value := getattr(options, key)) not in (None, "auto", "completions"):
            words.append(f"data.{key}={json.dumps(value)}")
    if options.columns != Columns():
        words += [f"data.columns.{key}={json.dumps(value)}" for key, value in drawn.options["columns"].items()]
    if options.delimiter or options.header:
        return  # how they are quoted is tested elsewhere
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        code = kamerton(["prepare", "model=tiny", *words])
    assert "Traceback" not in output.getvalue(), output.getvalue()
    assert code in ((2,) if refused else (0, 2)), f"exit code {code}: {words}\n{output.getvalue()[-2000:]}"


def written(drawn: Input, folder: Path, policy: dict[str, str | None]) -> DataOptions:
    """Write the files of an input; return the options that read them."""
    folder.mkdir()
    for name, content in drawn.files.items():
        (folder / name).write_bytes(content)

    def placed(path: Any) -> Any:
        return [placed(part) for part in path] if isinstance(path, list) else os.path.normpath(folder / path)

    options = dict(drawn.options)
    for key in {"path", "train", "validation", "test"} & options.keys():
        options[key] = placed(options[key])
    options["columns"] = Columns(**options.get("columns", {}))
    sources = options.get("sources", {})
    options["sources"] = {
        name: Source(**{**source, "path": placed(source["path"])}) for name, source in sources.items()
    }
    return DataOptions(**options, policy=policy)


if __name__ == "__main__":
    sys.exit(main())
