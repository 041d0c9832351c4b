"""Inside a job's process: writes the job's result for the launcher, and stops when the launcher's process is gone."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback

from hydra_plugins.kamerton import _jobs

ENVIRONMENT = "HYDRA_PROCESS_JOB"  # {"result": the file to write, "alive": a pipe that closes with the launcher}
GRACE = 60.0  # seconds that an orphan has for stopping in its own way


class InProcess(Callback):
    """Hydra's callback that the launcher adds to a job's configuration."""

    def __init__(self) -> None:
        options = json.loads(os.environ.pop(ENVIRONMENT, "{}"))  # processes that the job starts are not the job
        _jobs.launched = bool(options)
        self._result: str | None = options.get("result")
        self._alive: int | None = options.get("alive")

    def on_run_start(self, config: Any, **kwargs: Any) -> None:
        if self._alive is not None:
            threading.Thread(target=_watch, args=(self._alive,), daemon=True).start()

    def on_job_end(self, config: Any, job_return: JobReturn, **kwargs: Any) -> None:
        if self._result is not None:
            if job_return.status is not JobStatus.COMPLETED:
                failure = {"error": _described(job_return._return_value), "facts": _jobs.facts}
                text = json.dumps(failure, default=_plain)
            else:
                try:
                    text = json.dumps({"value": job_return.return_value, "facts": _jobs.facts}, default=_plain)
                except TypeError as error:
                    text = json.dumps({"error": _described(error), "facts": {}})
            Path(self._result).write_text(text, encoding="utf-8")


def _watch(pipe: int) -> None:
    """Wait until no process holds the other end of `pipe`; then stop this one, with those that it started."""
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _described(error: BaseException) -> dict[str, str | None]:
    """Return an exception's class and text, and its code or outcome, or the code of the fault that it carries."""
    fault = getattr(error, "fault", None)
    codes = (getattr(error, "code", None), getattr(error, "outcome", None), getattr(fault, "code", None))
    code = next((code for code in codes if code is not None), None)
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return {"type": name, "text": str(error), "code": code if isinstance(code, str) else None}


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy and torch as JSON has them; paths as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a job in its own process returns plain values, not a {type(value).__name__}")
