"""Worker process of text generation: `python -m kamerton.server.generation.worker`, started by `client`.

It reads requests from standard input and writes results to standard output, one JSON object per line. It runs at the
lowest priority, so that it does not slow down training, and exits when its input ends, that is, with its parent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO, Any

Command = dict[str, Any]


def lower_priority() -> None:
    """Use idle processor time, and at most a twentieth of the time that other processes use.

    With `sched_autogroup` Linux first divides time between sessions, and a process's niceness only counts within its
    session. So the niceness of the session is set too: its weight is 45 to another session's 1024 (4 %).
    """
    os.nice(19)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("14")


def read_commands(source: IO[str], commands: queue.SimpleQueue[Command]) -> None:
    """Queue each command; exit the process at the end of the input, even in the middle of a step."""
    for line in source:
        commands.put(json.loads(line))
    os._exit(0)


def main() -> None:
    """Answer requests until the input ends.

    The priority is lowered after the imports, which take some seconds of one processor.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries goes to standard error
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    threading.Thread(target=read_commands, args=(sys.stdin, commands), daemon=True).start()
    options = commands.get()
    logging.basicConfig(level=logging.WARNING)

    from kamerton.cores import set_threads
    from kamerton.quiet import quiet_training
    from kamerton.server.generation.engine import Engine
    from kamerton.server.generation.model_cache import Models

    if options["yields"]:
        lower_priority()
    quiet_training()
    set_threads(options["threads"])
    results: list[dict[str, Any]] = []
    engine = Engine(
        Models(options["models"], options["context"], options["quantize"]), results.append, options["answers"]
    )
    while True:
        while engine.idle or not commands.empty():  # an idle engine waits for a command
            command = commands.get()
            if "cancel" in command:
                engine.cancel(command["cancel"])
            else:
                engine.add(command)
        engine.step()
        out.write("".join(json.dumps(result) + "\n" for result in results))
        out.flush()
        results.clear()


if __name__ == "__main__":
    main()
