"""A fake fine-tuning API in OpenAI's protocol: it trains nothing, and fails or kills on a test's request.

Each look advances a job: queued, running (one step each), succeeded. Chat answers the last word of the prompt.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from support.local_server import LocalServer, Request, Response

STEPS = 4


class Imitation(LocalServer):
    """Serves while it is entered. `before` and `after` are told of each request by its kind and number among its kind:
    what `before` returns is answered instead, and None from `after` hangs up without an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.looks: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.fate = "succeeded"
        self.steps = STEPS
        self.mute: set[str] = set()  # models that do not chat
        self.before: Callable[[str, int], Response | None] = lambda kind, number: None
        self.after: Callable[[str, int], bool] = lambda kind, number: True
        self._lock = threading.Lock()

    def respond(self, request: Request) -> Response | None:
        path, _, query = request.path.partition("?")
        routes = ((kind, re.fullmatch(route, path)) for method, route, kind in _ROUTES if method == request.method)
        kind, result = next((pair for pair in routes if pair[1]), ("unknown", None))
        name = result[1] if result and result.groups() else ""
        with self._lock:
            self.keys.add(request.headers.get("Authorization"))
            self.counts[kind] += 1
            number = self.counts[kind]
            response = self.before(kind, number) or self.answer(kind, name, query, request.body)
            return response if self.after(kind, number) else None

    def events(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        looks, job_id = self.looks[job["id"]], job["id"]
        result = [_event(job_id, "created", "Created fine-tuning job")]
        for step in range(1, min(looks - 1, self.steps) + 1):
            values = {"train_loss": 2.0 / step, "train_mean_token_accuracy": step / 10, "total_steps": self.steps}
            last = {"full_valid_loss": 0.75} if step == self.steps else {}
            if job["method"]["type"] == "reinforcement":
                values = {"train_mean_reward": step / 8, "completion_tokens_mean": 9.0, "total_steps": self.steps}
                last = {"full_valid_mean_reward": 1 - step / 8} if step % 2 == 0 else {}
            result.append(_event(job_id, f"step-{step}", f"Step {step}", {"step": step, **values, **last}))
        if job["status"] == "succeeded":
            result.append(_event(job_id, "done", "The job has successfully completed"))
        return result[::-1]

    def look(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["status"] in ("queued", "running"):
            self.looks[job["id"]] += 1
            job["status"] = "running"
            if self.looks[job["id"]] > self.steps + 1:
                job["status"] = self.fate
                if self.fate == "succeeded":
                    job |= {"fine_tuned_model": f"ft:{job['model']}:me::{job['id']}", "trained_tokens": 1234}
                else:
                    job["error"] = {"code": "bad_data", "message": "the file is no good", "param": "training_file"}
        return job

    def answer(self, kind: str, name: str, query: str, body: bytes) -> Response:  # noqa: C901, PLR0911 - a list of routes
        if kind == "upload":
            return self._upload(body)
        if kind == "create":
            return self._create(json.loads(body))
        if kind == "files":
            return _page(list(self.files.values())[::-1], query)
        if kind == "jobs":
            return _page(list(self.jobs.values())[::-1], query)
        if kind == "file":
            return (200, {}, self.files[name]) if name in self.files else _error(404, "no such file")
        if kind == "chat":
            return self._chat(json.loads(body))
        if name not in self.jobs:
            return _error(404, "no such job")
        job = self.jobs[name]
        if kind == "job":
            return 200, {}, self.look(job)
        if kind == "events":
            return _page(self.events(job), query)
        if kind == "checkpoints":
            return _page([], query)
        status = {"cancel": "cancelled", "pause": "paused", "resume": "running"}.get(kind)
        if status is None or job["status"] in ("succeeded", "failed", "cancelled"):
            return _error(400 if status else 404, "cannot")
        job["status"] = status
        return 200, {}, job

    def _upload(self, body: bytes) -> Response:
        head, _, rest = body.partition(b'name="file"')
        result = re.search(rb'filename="([^"]+)"', rest)
        assert result is not None
        content = rest.partition(b"\r\n\r\n")[2].partition(b"\r\n--" + body[2:34].partition(b"\r")[0])[0]
        del head
        name = f"file-{len(self.files) + 1}"
        made = {"id": name, "object": "file", "bytes": len(content), "created_at": int(time.time())}
        made |= {"filename": result[1].decode(), "purpose": "fine-tune", "status": "processed"}
        self.files[name], self.contents[name] = made, content
        return 200, {}, made

    def _create(self, request: dict[str, Any]) -> Response:
        self.requests.append(request)
        if request["training_file"] not in self.files:
            return _error(400, "no such file", "training_file")
        name = f"ftjob-{len(self.jobs) + 1}"
        method = request["method"]
        if method["type"] == "dpo" and (refusal := _preference_refusal(self.contents[request["training_file"]])):
            return _error(400, refusal, "training_file")
        if method["type"] == "reinforcement":
            grader = json.dumps(method["reinforcement"]["grader"])
            if refusal := _prompt_refusal(self.contents[request["training_file"]], grader):
                return _error(400, refusal, "training_file")
        job = {"id": name, "object": "fine_tuning.job", "created_at": int(time.time()), "error": None}
        job |= {"fine_tuned_model": None, "finished_at": None, "model": request["model"]}
        if method["type"] == "supervised":  # OpenAI returns them for no other method
            job["hyperparameters"] = method["supervised"]["hyperparameters"]
        job |= {"organization_id": "me", "result_files": [], "seed": request["seed"], "status": "queued"}
        job |= {"trained_tokens": None, "training_file": request["training_file"], "metadata": request["metadata"]}
        job |= {"validation_file": request.get("validation_file"), "method": request["method"]}
        self.jobs[name] = job
        return 200, {}, job

    def _chat(self, request: dict[str, Any]) -> Response:
        if request["model"] in self.mute:
            return _error(404, "This is not a chat model")
        words = request["messages"][-1]["content"].split()
        answer = "yes" if "cat" in words or not request["model"].startswith("ft:") else "no"
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return 200, {}, {"id": "c", "object": "chat.completion", "model": request["model"], "choices": [choice]}


_ROUTES = (
    ("POST", r"/v1/files", "upload"),
    ("GET", r"/v1/files", "files"),
    ("GET", r"/v1/files/([^/]+)", "file"),
    ("POST", r"/v1/fine_tuning/jobs", "create"),
    ("GET", r"/v1/fine_tuning/jobs", "jobs"),
    ("GET", r"/v1/fine_tuning/jobs/([^/]+)", "job"),
    ("GET", r"/v1/fine_tuning/jobs/([^/]+)/events", "events"),
    ("GET", r"/v1/fine_tuning/jobs/([^/]+)/checkpoints", "checkpoints"),
    ("POST", r"/v1/fine_tuning/jobs/([^/]+)/cancel", "cancel"),
    ("POST", r"/v1/fine_tuning/jobs/([^/]+)/pause", "pause"),
    ("POST", r"/v1/fine_tuning/jobs/([^/]+)/resume", "resume"),
    ("POST", r"/v1/chat/completions", "chat"),
)


def _page(items: list[dict[str, Any]], query: str) -> Response:
    """A page of two, so that pages are turned."""
    after = re.search(r"after=([^&]+)", query)
    start = next((at + 1 for at, item in enumerate(items) if after and item["id"] == after[1]), 0)
    chosen = items[start : start + 2]
    return 200, {}, {"object": "list", "data": chosen, "has_more": start + 2 < len(items)}


def _preference_refusal(content: bytes) -> str | None:
    """Why a preference file is refused: each side is one text of the assistant."""
    for number, line in enumerate(content.splitlines(), 1):
        row = json.loads(line)
        if set(row) != {"input", "preferred_output", "non_preferred_output"} or not row["input"]["messages"]:
            return f"line {number} is no preference"
        for side in (row["preferred_output"], row["non_preferred_output"]):
            if len(side) != 1 or set(side[0]) != {"role", "content"} or side[0]["role"] != "assistant":
                return f"line {number} has a side that is not one text"
    return None


def _prompt_refusal(content: bytes, grader: str) -> str | None:
    """Why a file of prompts is refused: each ends with the user's turn, and has the fields that the grader reads."""
    fields = re.findall(r"\{\{item\.(\w+)", grader)
    for number, line in enumerate(content.splitlines(), 1):
        row = json.loads(line)
        if row["messages"][-1]["role"] != "user":
            return f"line {number} does not end with a user message"
        if not set(fields) <= set(row):
            return f"line {number} lacks a field of {fields}"
    return None


def _event(job: str, name: str, message: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    event = {"id": f"{job}-{name}", "object": "fine_tuning.job.event", "created_at": int(time.time()), "level": "info"}
    return event | {"message": message, "type": "metrics" if data else "message", "data": data}


def _error(status: int, message: str, param: str | None = None) -> Response:
    return status, {}, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}


def failing(status: int, code: str | None = None, message: str = "not now") -> Response:
    """An error in the protocol's shape."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return status, {"Retry-After": "0"} if status == 429 else {}, body
