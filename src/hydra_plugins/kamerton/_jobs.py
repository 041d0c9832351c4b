"""Optional channel between an application and the process launcher.

The application sets how it is started and, in a job's process, further facts for its launcher. It reads how the jobs
ended after `hydra.main` has returned.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

command: list[str] = []  # starts the application, before any override; empty: as this process was started
flags: list[str] = []  # with `command`: flags that locate the configuration, such as --config-dir=DIR
launched = False  # True in the process of a job
composing = threading.Lock()  # held to compose a job's configuration: Hydra keeps its own in a global
facts: dict[str, Any] = {}  # in a job's process: plain values for the process that started it


@dataclass(frozen=True, slots=True)
class Job:
    """A job that ran in its own process: its overrides, and how it ended.

    `code` is the exit code, negative for the signal that killed it; `error` is the reason of a failure.
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
