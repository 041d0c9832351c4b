"""Answers many requests at once: each step reads a chunk of one prompt and gives every answer one token.

So a long prompt or a long answer holds up nobody for longer than a step. All of it runs in one thread of one process;
what comes of it goes out as plain values: `{"id", "prompt_tokens", "fingerprint"}` when a prompt is accepted,
`{"id", "text", "tokens", "finish"}` for text that is certain (`finish` is None until the end, `tokens` counts those
made so far), or `{"id", "error"}`.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from kamerton.data.encode.render import RenderError
from kamerton.errors import RunFailed, UserError
from kamerton.score.generate.sampling import Decoding
from kamerton.server.generation.chat_limits import CHARACTERS
from kamerton.server.generation.decode import Batch, Reading, Row, begun, can_join, join, keep, pick, read, step
from kamerton.server.generation.model_cache import Models, Served
from kamerton.server.generation.text_stream import TextStream

Job = Mapping[str, Any]  # id, tenant, source, turns or text, max_tokens, temperature, top_p, seed, stop
Say = Callable[[dict[str, Any]], None]
_CHUNK, _CHUNK_ALONE = 128, 512  # prompt tokens a step, while others wait for their next token or nobody does

T = TypeVar("T")
log = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 (it names what happened)
    """A request that cannot be answered, in the words of an error of the API."""

    def __init__(self, status: int, message: str, param: str | None, code: str) -> None:
        self.error = {"status": status, "message": message, "param": param, "code": code}
        super().__init__(message)


@dataclass(slots=True)
class _Answer:
    """One request on its way."""

    tenant: str
    served: Served
    text: TextStream
    room: int


class Engine:
    """At most `most` answers at a time; `say` takes what comes of them.

    The next request is of the tenant with the fewest answers, among several the one admitted longest ago; those of one
    tenant keep their order. A tenant without any answer does not wait for others to end: it is admitted beyond
    `most`, up to twice as many.
    """

    def __init__(self, models: Models, say: Say, most: int) -> None:
        self._models = models
        self._say = say
        self._most = most
        self._waiting: dict[str, deque[Job]] = {}  # by tenant, the one that was admitted last at the end
        self._answers: dict[str, _Answer] = {}
        self._reading: deque[Reading] = deque()
        self._batches: list[Batch] = []

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._answers)

    def add(self, job: Job) -> None:
        """Take a request."""
        self._waiting.setdefault(job.get("tenant", ""), deque()).append(job)

    def cancel(self, key: str) -> None:
        """Forget a request; nothing more is said of it."""
        left = {tenant: deque(job for job in jobs if job["id"] != key) for tenant, jobs in self._waiting.items()}
        self._waiting = {tenant: jobs for tenant, jobs in left.items() if jobs}
        self._answers.pop(key, None)
        self._drop_ended()

    def step(self) -> None:
        """Admit one request, read a chunk of one prompt, and give each answer a token."""
        if (job := self._next()) is not None:
            self._admit(job)
        if self._reading:
            reading = self._reading.popleft()
            self._guarded([reading.row], self._read, reading)
        for batch in self._batches:
            self._guarded(batch.rows, self._advance, batch)
        self._drop_ended()

    def _next(self) -> Job | None:
        """The request whose turn it is; None where none waits or there is no room for it."""
        if not self._waiting:
            return None
        answers = Counter(answer.tenant for answer in self._answers.values())
        tenant = min(self._waiting, key=answers.__getitem__)
        if len(self._answers) >= (2 * self._most if answers[tenant] == 0 else self._most):
            return None
        jobs = self._waiting.pop(tenant)
        job = jobs.popleft()
        if jobs:
            self._waiting[tenant] = jobs
        return job

    def _admit(self, job: Job) -> None:
        key = job["id"]
        try:
            served = self._models.get(job["source"], {answer.served.key for answer in self._answers.values()})
            prompt = _prompt(served, job)
            room = _room(served, job, len(prompt))
        except Refused as refused:
            self._say({"id": key, "error": refused.error})
        except (UserError, RunFailed) as error:
            log.error("a model cannot be loaded: %s", error)
            fault = error.faults[0] if isinstance(error, UserError) else error.fault
            self._say({"id": key, "error": _broken(f"The model cannot be loaded ({fault.code}).", "model_not_loaded")})
        except Exception:
            log.exception("request %s failed before its first token", key)
            self._say({"id": key, "error": _broken("The model cannot be loaded.", "model_not_loaded")})
        else:
            cleans = bool(getattr(served.tokenizer, "clean_up_tokenization_spaces", False))
            text = TextStream(served.decode, job["stop"], cleans=cleans)
            self._answers[key] = _Answer(job.get("tenant", ""), served, text, room)
            decoding = Decoding(room, job["temperature"], job["top_p"], job["seed"])
            self._reading.append(Reading(Row(key, prompt, decoding)))
            self._say({"id": key, "prompt_tokens": len(prompt), "fingerprint": served.fingerprint})

    def _guarded(self, rows: Sequence[Row], work: Callable[[T], None], of: T) -> None:
        """What goes wrong costs these rows alone."""
        try:
            work(of)
        except Exception:
            log.exception("a step failed")
            for row in rows:
                if self._answers.pop(row.key, None) is not None:
                    self._say({"id": row.key, "error": _broken("The model failed while it answered.", "model_failed")})

    def _read(self, reading: Reading) -> None:
        served = self._answers[reading.row.key].served
        size = _CHUNK if self._batches or self._reading else _CHUNK_ALONE
        logits = read(served.model, reading, size, served.device)
        if not reading.complete:
            self._reading.append(reading)
            return
        (token,) = self._take(logits, [reading.row])
        if reading.row.key in self._answers:
            self._join(begun(reading, token, served.device), served)

    def _join(self, new: Batch, served: Served) -> None:
        for i, batch in enumerate(self._batches):
            if self._answers[batch.rows[0].key].served is served and can_join(batch) and can_join(new):
                self._batches[i] = join(batch, new)
                return
        self._batches.append(new)

    def _advance(self, batch: Batch) -> None:
        served = self._answers[batch.rows[0].key].served
        batch.newest = self._take(step(served.model, batch), batch.rows)

    def _take(self, logits: Tensor, rows: Sequence[Row]) -> list[int]:
        """Each row's next token; the answers that it ends are gone."""
        tokens = pick(logits, rows)
        for row, token in zip(rows, tokens, strict=True):
            answer = self._answers[row.key]
            piece = "" if token in answer.served.ends else answer.text.add(token)
            row.made = len(answer.text.tokens)
            finish = _finish(answer, token)
            if finish is not None:
                piece += answer.text.finish()
                finish = "stop" if answer.text.stopped else finish
                del self._answers[row.key]
            if piece or finish:
                self._say({"id": row.key, "text": piece, "tokens": row.made, "finish": finish})
        return tokens

    def _drop_ended(self) -> None:
        """Rows of answers that are gone leave."""
        self._reading = deque(reading for reading in self._reading if reading.row.key in self._answers)
        batches = []
        for batch in self._batches:
            left = [i for i, row in enumerate(batch.rows) if row.key in self._answers]
            if left:
                batches.append(batch if len(left) == len(batch.rows) else keep(batch, left))
        self._batches = batches


def _finish(answer: _Answer, token: int) -> str | None:
    if token in answer.served.ends or answer.text.stopped:
        return "stop"
    return "length" if len(answer.text.tokens) >= answer.room else None


def _prompt(served: Served, job: Job) -> list[int]:
    """The tokens of what is asked."""
    texts = [job["text"]] if job["turns"] is None else [content for _, content in job["turns"]]
    if sum(map(len, texts)) > CHARACTERS * served.context:
        raise _too_long(served, job, "far more tokens")
    if job["turns"] is None:
        tokens = served.text_tokens(job["text"])
    else:
        try:
            tokens = served.chat_tokens([(role, content) for role, content in job["turns"]])
        except RenderError as error:
            message = f"The model's chat template refuses these messages: {error}"
            raise Refused(400, message, "messages", "invalid_messages") from error
    if not tokens:
        raise Refused(400, "The prompt is empty.", _asked(job), "invalid_value")
    return tokens


def _room(served: Served, job: Job, size: int) -> int:
    """How many tokens the answer may have: those asked for, or all that are left."""
    left = served.context - size
    wanted = job["max_tokens"]
    if left < 1:
        raise _too_long(served, job, f"{size} tokens")
    if wanted is not None and wanted > left:
        raise _too_long(served, job, f"{size} tokens, and {wanted} are asked for")
    return left if wanted is None else int(wanted)


def _too_long(served: Served, job: Job, has: str) -> Refused:
    message = f"This model reads and writes at most {served.context} tokens, and the prompt has {has}."
    return Refused(400, message, _asked(job), "context_length_exceeded")


def _asked(job: Job) -> str:
    return "prompt" if job["turns"] is None else "messages"


def _broken(message: str, code: str) -> dict[str, Any]:
    return {"status": 500, "message": message, "param": None, "code": code}
