"""A starter with everything imported: runs `kamerton` in a separate process without seconds of imports.

`python warm.py SOCKET` is the starter: one thread, frozen heap, a fork for each request. What it forks has a pid, a
session, an environment and signals like any command. Not for torchrun and Lightning's own ranks, which start Python
themselves, nor for tests of what is imported.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

LIMIT = 1 << 17  # bytes of a request: arguments and environment


class Warm:
    """A forked command, to be used as a `subprocess.Popen`."""

    def __init__(
        self, address: Path, arguments: Sequence[str], output: IO[Any], cwd: Path | None, env: Mapping[str, str] | None
    ) -> None:
        self.args, self.returncode = ["kamerton", *arguments], None
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(str(address))
        request = {"arguments": list(arguments), "cwd": str(cwd or Path.cwd()), "env": dict(env or os.environ)}
        with open(os.devnull) as nothing:
            files = [nothing.fileno(), output.fileno(), output.fileno()]
            socket.send_fds(self._connection, [json.dumps(request).encode()], files)
        self.pid = int(self._connection.recv(64))

    returncode: int | None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code; None if it still runs after `timeout` seconds."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self.returncode = os.waitstatus_to_exitcode(int(self._connection.recv(64)))
                self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing for what has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Starter:
    """The client of a starter."""

    def __init__(self, address: Path) -> None:
        self._address = address

    def __call__(
        self, *arguments: str, output: IO[Any], cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Warm:
        """Begin `kamerton` with these arguments; what it prints goes to `output`."""
        return Warm(self._address, arguments, output, cwd, env)


@contextlib.contextmanager
def starter() -> Iterator[Starter]:
    """Run a starter until the end of the block; it exits with this process at the latest."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kamerton-"))  # a socket's path must be short
        address = Path(folder) / "starter"
        command = [sys.executable, __file__, str(address)]
        process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Starter(address)


def serve(address: str) -> None:
    """Fork for every connection until the standard input ends."""
    import peft  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import sklearn.feature_extraction.text  # noqa: F401
    import transformers

    import kamerton.pipeline.run
    import kamerton.sweep.report  # noqa: F401

    transformers.LlamaForCausalLM, transformers.get_scheduler  # noqa: B018 (imported lazily, on access)
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    wake, waker = socket.socketpair()
    for end in (wake, waker):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    children: dict[int, socket.socket] = {}
    print("ready", flush=True)
    with selectors.DefaultSelector() as ready:
        for source in (listener, wake, sys.stdin):
            ready.register(source, selectors.EVENT_READ)
        while True:
            sources = [key.fileobj for key, _ in ready.select()]
            if sys.stdin in sources:
                return
            if listener in sources:
                connection, _ = listener.accept()
                pid = _forked(connection)
                connection.send(str(pid).encode())
                children[pid] = connection
            if wake in sources:
                wake.recv(4096)
            _reap(children)


def _reap(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with children.pop(pid) as connection, contextlib.suppress(OSError):  # its client may have gone
            connection.send(str(status).encode())


def _forked(connection: socket.socket) -> int:
    text, files, _, _ = socket.recv_fds(connection, LIMIT, 3)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = _run(json.loads(text), files)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                atexit._run_exitfuncs()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    for file in files:
        os.close(file)
    return pid


def _run(request: dict[str, Any], files: list[int]) -> int:
    """`python -m kamerton`, as the shell would start it."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    sys.argv = ["kamerton", *request["arguments"]]
    try:
        runpy.run_module("kamerton", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
