"""`kamerton serve` in a separate process, which a test may kill and restart."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai

from kamerton.jobs.locate import run_directories
from kamerton.jobs.store import WORKER
from kamerton.locks import lock_owner
from kamerton.run.opening import LOCK
from support.ports import await_server, free_port
from support.strict import strict_client
from support.warm import Starter

TOKENS = {"ann": "token-of-ann", "ben": "token-of-ben"}


class Server:
    """A server of the tiny model below `folder`, on one port whenever it runs."""

    def __init__(self, folder: Path, warm: Starter) -> None:
        self._warm = warm
        self.root, self.log = folder / "runs", folder / "server.log"
        (folder / "tokens.txt").write_text("".join(f"{tenant} {token}\n" for tenant, token in TOKENS.items()))
        self._port = free_port()
        words = ["--port", str(self._port), "--root", str(self.root), "--models", "tiny", "--max-running", "1"]
        self._command = ["serve", "--tokens", str(folder / "tokens.txt"), *words]
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("a") as log:
            self._process = self._warm(*self._command, output=log, env=environment)
        try:
            await_server(self._process, self._port, self.log)
        except BaseException:
            self.end(signal.SIGKILL)
            raise

    def end(self, number: signal.Signals) -> int:
        """Stop only the server, and return its exit code; its jobs continue."""
        self._process.send_signal(number)
        code = self._process.wait(600)
        assert code is not None, self.log.read_text()
        return code

    def clean(self) -> None:
        """End it with all that trains."""
        self.end(signal.SIGKILL)
        for path in run_directories(self.root):
            for lock in (WORKER, LOCK):
                owner = lock_owner(path / lock)
                if owner is not None and owner.pid is not None:
                    os.kill(owner.pid, signal.SIGKILL)

    def client(self, tenant: str = "ann") -> openai.OpenAI:
        """A tenant's client; one outlives restarts."""
        return strict_client(f"http://127.0.0.1:{self._port}/v1", TOKENS[tenant])


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; fail with `what` if it never does."""
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@contextlib.contextmanager
def served(warm: Starter, folder: Path, *words: str) -> Iterator[str]:
    """The address of `kamerton serve` with these words, which runs in `folder` until the end of the block."""
    port, log = free_port(), folder / "server.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = warm("serve", *words, "--port", str(port), output=output, cwd=folder, env=environment)
    try:
        await_server(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(600)
