"""A starter with everything imported: runs Python in a separate process without seconds of imports.

`python warm.py SOCKET` is the starter: one thread, frozen heap, a fork for each request. What it forks has a pid, a
session, an environment and signals like any command; the Python processes that it starts in turn, such as ranks, jobs
and trials, are forked as well (nursery.py). Not for tests of what is imported.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a script

from support import nursery

GENERATION = "kamerton.server.generation.worker"  # on a loaded machine, what yields to everything would starve


class Warm:
    """A forked command, to be used as a `subprocess.Popen`."""

    def __init__(
        self,
        address: Path,
        words: Sequence[str],
        output: IO[Any],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        kept: Sequence[int] = (),
    ) -> None:
        self.args, self.output, self.returncode = [sys.executable, *words], output, None
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(str(address))
        request = nursery.request(words, cwd, env, kept)
        with open(os.devnull) as nothing:
            files = [nothing.fileno(), output.fileno(), output.fileno(), *kept]
            socket.send_fds(self._connection, [request], files)
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
        return self.python("-m", "kamerton", *arguments, output=output, cwd=cwd, env=env)

    def python(self, *words: str, output: IO[Any], **options: Any) -> Warm:
        """Begin Python with these arguments. Options: `cwd`, `env`, and `kept`, the files that it inherits."""
        return Warm(self._address, words, output, **options)

    def finish(self, *words: str, code: int = 0, **options: Any) -> str:
        """Run Python to its end and return what it printed; fail if its exit code is another."""
        with tempfile.TemporaryFile("a+") as output:
            process = self.python(*words, output=output, **options)
            if process.wait(900) is None:
                process.kill()
            output.seek(0)
            text = output.read()
        assert process.returncode == code, text
        return text


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
    import optuna  # noqa: F401
    import peft  # noqa: F401
    import plotly.graph_objects  # noqa: F401
    import pyarrow.dataset  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import sklearn.feature_extraction.text  # noqa: F401
    import transformers

    import kamerton.commands.train
    import kamerton.pipeline.run
    import kamerton.server.app
    import kamerton.server.generation.worker
    import kamerton.sweep.report  # noqa: F401
    from kamerton.config.compose import compose_values

    with contextlib.suppress(ImportError):
        import s3fs  # noqa: F401 (Lightning does, for a checkpoint)
    compose_values(["model=tiny", "data=jsonl", "logger=csv"])  # kept for what is forked
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
    text, files, _, _ = socket.recv_fds(connection, nursery.LIMIT, nursery.FILES)
    pid = os.fork()
    if not pid:
        options = json.loads(text)
        nursery.regroup(options)
        _start(options, files)
    for file in files:
        os.close(file)
    return pid


def _start(request: dict[str, Any], files: list[int]) -> None:
    """Become the process that Python would be, and exit."""
    code = 1
    try:
        code = _run(request, files)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(request: dict[str, Any], files: list[int]) -> int:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    sources = [fcntl.fcntl(file, fcntl.F_DUPFD, 2048) for file in files]  # away from the numbers that are to be
    os.closerange(3, 2048)
    for number, file in zip(request["files"], sources, strict=True):
        os.dup2(file, number)
    os.closerange(2048, 4096)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    nursery.attach(_start)
    _set_rank()
    try:
        _python(request["words"])
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _set_rank() -> None:
    """As Lightning does when it is imported."""
    from lightning_fabric.utilities.rank_zero import _get_rank, rank_zero_only

    rank_zero_only.rank = _get_rank() or 0


def _python(words: list[str]) -> None:
    """`python WORDS`."""
    flags = [word for word in words[:2] if word in ("-P", "-u")]
    kind, *rest = words[len(flags) :]
    extra = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = [] if "-P" in flags else [str(Path(kind).absolute().parent) if kind[0] != "-" else ""]
    sys.path[:2] = [*first, *extra]
    sys.orig_argv[1:] = words
    if kind == "-m":
        sys.argv = rest
        if rest[0] == GENERATION:
            worker = importlib.import_module(GENERATION)
            worker.lower_priority = lambda: None  # type: ignore[attr-defined]
            sys.exit(worker.main())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    else:
        sys.argv = [kind, *rest]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
