"""Python processes that a warm process starts are forked too: `subprocess` asks a nursery instead of executing Python.

A nursery is a child of the process that it serves, forked while that has one thread and has run nothing. For each
request it forks twice, so that the served process, a subreaper, adopts what is left: its child like any other, with a
pid, an exit code and signals. Each process that starts this way has a nursery as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LIMIT = 1 << 17  # bytes of a request: arguments and environment
FILES = 64  # of a request
_NAME = "nursery"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
Start = Callable[[dict[str, Any], list[int]], None]


def children(pid: int) -> list[int]:
    """The child processes of a process, without its nursery."""
    result = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            if Path(f"/proc/{child}/comm").read_text().strip() != _NAME:
                result.append(int(child))
    return result


def attach(start: Start) -> None:
    """Give this process a nursery, which runs `start` with a request and its open files in a new process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        _serve(theirs, start)
    theirs.close()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    plain, one_at_a_time = subprocess.Popen._execute_child, threading.Lock()  # type: ignore[attr-defined]

    def execute(
        self: Any, args: Any, program: Any, before: Any, close: Any, kept: Any, cwd: Any, env: Any, *more: Any
    ) -> None:
        pipes, (new_session, group) = more[3:9], more[14:16]
        if isinstance(args, str | bytes) or args[0] != sys.executable or program or before:
            return plain(self, args, program, before, close, kept, cwd, env, *more)
        standard = [pipe if pipe != -1 else number for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        message = request([os.fspath(word) for word in args[1:]], cwd, env, kept, group=group, new_session=new_session)
        with one_at_a_time:
            socket.send_fds(ours, [message], [*standard, *kept])
            self.pid = int(ours.recv(64))
        self._child_created = True
        return self._close_pipe_fds(*pipes)

    subprocess.Popen._execute_child = execute  # type: ignore[attr-defined]


def request(
    words: Sequence[str], cwd: Any, env: Any, kept: Sequence[int], *, new_session: bool = True, group: int = -1
) -> bytes:
    """Python's arguments and what a process inherits; its files are sent along."""
    inherited = dict(os.environ if env is None else env)
    values = {"words": list(words), "cwd": os.fspath(cwd or Path.cwd()), "env": inherited}
    return json.dumps(values | {"files": [0, 1, 2, *kept], "new_session": new_session, "group": group}).encode()


def regroup(options: dict[str, Any]) -> None:
    """Leave the session or the process group of the process that forked this one, if asked to."""
    _set_name("python")
    if options["new_session"]:
        os.setsid()
    elif options["group"] != -1:
        os.setpgid(0, options["group"])


def _set_name(name: str) -> None:
    Path("/proc/self/comm").write_text(name)


def _serve(ours: socket.socket, start: Start) -> None:
    """Fork until the served process has ended."""
    _set_name(_NAME)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ours = socket.socket(fileno=fcntl.fcntl(ours.detach(), fcntl.F_DUPFD_CLOEXEC, 1024))
    os.closerange(0, 1024)
    for number in range(3):
        assert os.open(os.devnull, os.O_RDWR) == number
    while True:
        text, files, _, _ = socket.recv_fds(ours, LIMIT, FILES)
        if not text:
            os._exit(0)
        result, written = os.pipe()
        between = os.fork()
        if not between:
            if not os.fork():
                options = json.loads(text)
                regroup(options)
                os.write(written, str(os.getpid()).encode())
                start(options, files)
            os._exit(0)
        os.waitpid(between, 0)  # from here on the new process is a child of the served one
        pid = os.read(result, 64)
        for file in (result, written, *files):
            os.close(file)
        ours.send(pid)
