"""The process that generates: `python -m kamerton.server.generation.worker`, started and spoken to by `generation`.

One JSON object a line: requests come in on standard input, what comes of them goes out on standard output. It runs at
the lowest priority, so that training beside it is not slowed, and ends when its input does, that is, with its parent.
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
    """Take processor time that nobody else wants, and at most a twentieth of what others do.

    Linux shares time between sessions first where `sched_autogroup` is on: there a process's own niceness counts among
    its session's alone. This session has one process, and a niceness whose weight is 45 to another's 1024 (4 %).
    """
    os.nice(19)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("14")


def read_commands(source: IO[str], commands: queue.SimpleQueue[Command]) -> None:
    """Put what comes in into the queue; at its end so does the process, whatever else it is doing."""
    for line in source:
        commands.put(json.loads(line))
    os._exit(0)


def main() -> None:
    """Answer what comes in until nothing comes any more.

    To start takes some seconds of one processor, once; only then is the priority lowered.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    threading.Thread(target=read_commands, args=(sys.stdin, commands), daemon=True).start()
    options = commands.get()
    logging.basicConfig(level=logging.WARNING)

    import torch

    from kamerton.quiet import quiet_training
    from kamerton.server.generation.engine import Engine
    from kamerton.server.generation.model_cache import Models

    if options["yields"]:
        lower_priority()
    quiet_training()
    torch.set_num_threads(options["threads"])
    said: list[dict[str, Any]] = []
    engine = Engine(Models(options["models"], options["context"]), said.append, options["answers"])
    while True:
        _take_in(engine, commands)
        engine.step()
        out.write("".join(json.dumps(one) + "\n" for one in said))
        out.flush()
        said.clear()


def _take_in(engine: Any, commands: queue.SimpleQueue[Command]) -> None:
    """All that has come in; where there is nothing else to do, wait for it."""
    while engine.idle or not commands.empty():
        command = commands.get()
        if "cancel" in command:
            engine.cancel(command["cancel"])
        else:
            engine.add(command)


if __name__ == "__main__":
    main()
