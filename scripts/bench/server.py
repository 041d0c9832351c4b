"""`kamerton serve` under requests that nobody thought of, and under many clients while it trains.

    python scripts/bench/server.py fuzz [--rounds 12] [--refused 2] [--raw 1000] [--seed 0]
    python scripts/bench/server.py clients [--model smollm2] [--clients 50] [--streams 0] [--windows 3] [--seconds 15]
    python scripts/bench/server.py attacks [--seconds 15]

A server of its own on the loopback interface. `fuzz` prints a table of what was answered and exits 1 where any
answer is the server's own fault (500 and above) or an error that is not of OpenAI's shape, where a whole request got no
answer, the server is dead at the end, or its log has a traceback. `clients` lets one job train and, in turns, leaves it
alone or lets clients poll its status every second and every fifth time its events, some of them reading streamed
answers of the base model instead; it prints the time of a step on both sides. The clients take their share of the same
processors. `attacks` lets one tenant attack a server that may open 1,024 files, from a process of its own, and prints
what another tenant feels of it; it exits 1 where the 95 % quantile of `/health` is above 100 ms or no chat is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import openai
from server_attacks import ATTACKS, HEADER, OPEN_FILES, under_attack
from server_clients import Answers, connections, polls, report, step_times, streams, take_turns
from server_fuzz import Known, Tally, described, raw, refused

from kamerton.jobs.locate import run_directories
from kamerton.jobs.store import WORKER
from kamerton.locks import lock_owner
from kamerton.run.opening import LOCK

PURPOSE: Final = "fine-tune"


@contextmanager
def server(root: Path, token: str, models: str = "tiny", other: str = "") -> Iterator[tuple[str, int]]:
    """The address and process id of a server whose log is `root/server.log`; at the end its jobs are killed with it."""
    (root / "tokens.txt").write_text(f"bench {token}\n" + (f"other {other}\n" if other else ""))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ["--port", str(port), "--root", str(root), "--tokens", str(root / "tokens.txt"), "--models", models]
    with (root / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "kamerton", "serve", *own, "--max-running", "1"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(process, port)
            yield f"http://127.0.0.1:{port}", process.pid
            assert process.poll() is None, f"the server ended with {process.returncode}"
        finally:
            process.terminate()
            process.wait(30)
            _kill_jobs(root)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"the server ended with {process.returncode} before it was there")


def _kill_jobs(root: Path) -> None:
    for path in run_directories(root):
        for lock in (WORKER, LOCK):
            owner = lock_owner(path / lock)
            if owner is not None and owner.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(owner.pid, signal.SIGKILL)


def chats(count: int, words: int = 3) -> bytes:
    """A file of chats that have little in common."""
    draw = random.Random(0)
    rows = [" ".join("".join(draw.choices("abcdefgh", k=4)) for _ in range(words)) for _ in range(count)]
    turns = [
        [{"role": "user", "content": row}, {"role": "assistant", "content": draw.choice(("yes", "no"))}] for row in rows
    ]
    return "".join(json.dumps({"messages": each}) + "\n" for each in turns).encode()


def prepare(client: openai.OpenAI) -> Known:
    """A file, and a job of it; whatever earlier rounds left behind is ended."""
    for job in client.fine_tuning.jobs.list(limit=100):
        if job.status not in ("succeeded", "failed", "cancelled"):
            client.fine_tuning.jobs.cancel(job.id)
    file = client.files.create(file=("chats.jsonl", chats(40)), purpose=PURPOSE).id
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8}}}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file, method=method)  # type: ignore[arg-type]
    return {"file_id": file, "training_file": file, "job_id": job.id, "model": "tiny"}


def fuzz(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    tally, token = Tally(), secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        with server(Path(folder), token) as (url, _):
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
            described(url, token, tally, options.rounds, lambda: prepare(client), options.seed)
            refused(url, tally, options.refused, options.seed)
            raw(url, token, tally, options.raw, options.seed)
            assert client.models.list().data[0].id == "tiny"  # it lives
        log = (Path(folder) / "server.log").read_text(errors="replace")
    print(tally.table())
    print(f"\n{tally.count:,} requests, {len(tally.faults)} faults, {log.count('Traceback')} tracebacks in the log")
    print(*tally.faults[:8], sep="\n")
    if "Traceback" in log:
        print(log[log.index("Traceback") :][:4000])
    return 1 if tally.faults or "Traceback" in log else 0


def clients(options: argparse.Namespace) -> int:
    """Returns the exit code: 1 where any call failed."""
    token = secrets.token_hex(16)
    answers = Answers()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), token, options.model) as (url, pid):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
        file = client.files.create(file=("chats.jsonl", chats(options.rows, words=4)), purpose=PURPOSE).id
        own = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": options.batch}}}
        job = client.fine_tuning.jobs.create(model=options.model, training_file=file, method=own)  # type: ignore[arg-type]
        hello: Any = {"role": "user", "content": "hello"}
        client.chat.completions.create(model=options.model, messages=[hello], max_tokens=2)

        open_ = connections(options.clients, url, token)

        def begin() -> list[asyncio.Task[None]]:
            count = options.clients - options.streams
            polling = [polls(open_[number], job.id, number / count, answers) for number in range(count)]
            reading = [streams(open_[count + n], options.model, n, answers) for n in range(options.streams)]
            return [asyncio.create_task(coroutine) for coroutine in (*polling, *reading)]

        with step_times(Path(folder) / "bench" / job.id / "metrics.csv") as times:
            while len(times) < 5:
                assert client.fine_tuning.jobs.retrieve(job.id).status not in ("failed", "cancelled", "succeeded")
                time.sleep(0.2)
            windows = asyncio.run(take_turns(pid, options.windows, options.seconds, begin))
        assert client.fine_tuning.jobs.retrieve(job.id).status == "running", "training ended too early"
        print(report(windows, times, answers))
    return 1 if answers.errors else 0


def attacks(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    token, other = secrets.token_hex(16), secrets.token_hex(16)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        with server(Path(folder), token, other=other) as (url, _):
            port = int(url.rpartition(":")[2])
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
            file = client.files.create(file=("chats.jsonl", chats(4000)), purpose=PURPOSE).id
            hello: Any = {"role": "user", "content": "hello"}
            client.chat.completions.create(model="tiny", messages=[hello], max_tokens=2)
            print(HEADER, flush=True)
            for name in ("none", *options.only):
                felt, answers = under_attack(name, port, (token, file), other, options.seconds)
                print(felt.row(name, answers), flush=True)
                passed = passed and felt.is_well
        log = (Path(folder) / "server.log").read_text(errors="replace")
    print(f"\nlines in the server's log: {len(log.splitlines())}, tracebacks: {log.count('Traceback')}")
    return 0 if passed else 1


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    fuzz_parser = commands.add_parser("fuzz")
    fuzz_parser.add_argument("--rounds", type=int, default=12, help="over all routes, every other one with real ids")
    fuzz_parser.add_argument("--refused", type=int, default=2, help="rounds with a token that nobody has")
    fuzz_parser.add_argument("--raw", type=int, default=1000, help="spoilt requests")
    fuzz_parser.add_argument("--seed", type=int, default=0)
    fuzz_parser.set_defaults(run=fuzz)
    clients_parser = commands.add_parser("clients")
    clients_parser.add_argument("--model", default="smollm2")
    clients_parser.add_argument("--clients", type=int, default=50)
    clients_parser.add_argument("--streams", type=int, default=0, help="clients that read streamed answers instead")
    clients_parser.add_argument("--windows", type=int, default=3, help="turns of each side")
    clients_parser.add_argument("--seconds", type=float, default=15, help="of a turn")
    clients_parser.add_argument("--rows", type=int, default=4000, help="of the training file")
    clients_parser.add_argument("--batch", type=int, default=2)
    clients_parser.set_defaults(run=clients)
    attacks_parser = commands.add_parser("attacks")
    attacks_parser.add_argument("--seconds", type=float, default=15, help="of an attack")
    attacks_parser.add_argument("--only", nargs="+", choices=ATTACKS, default=ATTACKS)
    attacks_parser.set_defaults(run=attacks)
    options = parser.parse_args()
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
