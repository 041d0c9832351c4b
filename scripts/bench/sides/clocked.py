"""A callback that notes when training begins and ends, for scripts/bench/sweeps.py."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class Clock(pl.Callback):
    """Adds a line to the file that the environment names in `CLOCK`: what happened, when, and in which process."""

    def on_train_start(self, *_: Any) -> None:
        _note("begin")

    def on_train_end(self, *_: Any) -> None:
        _note("end")


def _note(what: str) -> None:
    line = json.dumps({"what": what, "time": time.time(), "pid": os.getpid()})
    with Path(os.environ["CLOCK"]).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
