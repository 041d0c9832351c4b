"""What an application and the process launcher may tell each other; nothing here has to be used.

The application says how it is started and, inside a job's process, what else its launcher should know of the job. It
reads how the jobs ended when `hydra.main` has returned.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

command: list[str] = []  # what starts the application, before any override; empty: what started this process
flags: list[str] = []  # with `command`: flags that say where the configuration is, such as --config-dir=DIR
launched = False  # whether this process is a job's
composing = threading.Lock()  # held to compose a job's configuration: Hydra keeps its own in a global
facts: dict[str, Any] = {}  # in a job's process: plain values for whoever started it


@dataclass(frozen=True, slots=True)
class Job:
    """A job that ran in a process of its own: what was typed for it, and how it ended.

    `code` is the exit code, negative for the signal that killed it; `error` says why it failed.
    """

    number: int
    overrides: tuple[str, ...]
    code: int
    value: Any = None
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


finished: list[Job] = []  # in the order in which they ended


class JobFailed(Exception):  # noqa: N818 (it names what happened)
    """A job's process ended without a result. `code` is that of the job's own exception, if it has one."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
