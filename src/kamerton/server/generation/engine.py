"""Generation engine: each step reads a chunk of one prompt and generates one token for every answer.

So a long prompt or answer delays others by at most one step. The engine runs in one thread and emits plain values:
`{"id", "prompt_tokens", "fingerprint"}` when a prompt is accepted, `{"id", "text", "tokens", "finish"}` for new text
(`tokens` is the number so far, `finish` is None until the end), or `{"id", "error"}`.
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
from kamerton.server.generation.decode import Batch, Prefill, Row, can_join, join, keep, pick, read, step, to_batch
from kamerton.server.generation.model_cache import Models, Served
from kamerton.server.generation.text_stream import TextStream

Job = Mapping[str, Any]  # id, tenant, source, turns or text, max_tokens, temperature, top_p, seed, stop
Emit = Callable[[dict[str, Any]], None]
_CHUNK, _CHUNK_ALONE = 128, 512  # prompt tokens per step, with and without other answers in progress

T = TypeVar("T")
log = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 (it names what happened)
    """Raised for a request that cannot be answered; `error` holds the fields of an API error."""

    def __init__(self, status: int, message: str, param: str | None, code: str) -> None:
        self.error = {"status": status, "message": message, "param": param, "code": code}
        super().__init__(message)


@dataclass(slots=True)
class _Answer:
    """The state of one answer; `max_tokens` is its limit."""

    tenant: str
    served: Served
    text: TextStream
    max_tokens: int


class Engine:
    """Generates at most `most` answers at once and passes results to `emit`.

    The next request is that of the tenant with the fewest answers; ties go to the tenant admitted longest ago. Requests
    of one tenant keep their order. A tenant without an answer does not wait for others to finish: it is admitted beyond
    `most`, up to twice as many.
    """

    def __init__(self, models: Models, emit: Emit, most: int) -> None:
        self._models = models
        self._emit = emit
        self._most = most
        self._waiting: dict[str, deque[Job]] = {}  # by tenant; the tenant admitted last comes last
        self._answers: dict[str, _Answer] = {}
        self._prefills: deque[Prefill] = deque()
        self._batches: list[Batch] = []

    @property
    def idle(self) -> bool:
        """Whether there are no requests."""
        return not (self._waiting or self._answers)

    def add(self, job: Job) -> None:
        """Queue a request."""
        self._waiting.setdefault(job.get("tenant", ""), deque()).append(job)

    def cancel(self, key: str) -> None:
        """Drop a request; nothing more is emitted for it."""
        remaining = {tenant: deque(job for job in jobs if job["id"] != key) for tenant, jobs in self._waiting.items()}
        self._waiting = {tenant: jobs for tenant, jobs in remaining.items() if jobs}
        self._answers.pop(key, None)
        self._drop_finished()

    def step(self) -> None:
        """Admit one request, read a chunk of one prompt, and generate one token for each answer."""
        if (job := self._next()) is not None:
            self._admit(job)
        if self._prefills:
            prefill = self._prefills.popleft()
            self._guarded([prefill.row], self._read_prompt, prefill)
        for batch in self._batches:
            self._guarded(batch.rows, self._decode, batch)
        self._drop_finished()

    def _next(self) -> Job | None:
        """Return the next request to admit; None if none is queued or all slots are taken."""
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
            max_tokens = _token_limit(served, job, len(prompt))
        except Refused as refused:
            self._emit({"id": key, "error": refused.error})
        except (UserError, RunFailed) as error:
            log.error("a model cannot be loaded: %s", error)
            fault = error.faults[0] if isinstance(error, UserError) else error.fault
            self._emit_error(key, f"The model cannot be loaded ({fault.code}).", "model_not_loaded")
        except Exception:
            log.exception("request %s failed before its first token", key)
            self._emit_error(key, "The model cannot be loaded.", "model_not_loaded")
        else:
            cleans = bool(getattr(served.tokenizer, "clean_up_tokenization_spaces", False))
            text = TextStream(served.decode, job["stop"], cleans=cleans)
            self._answers[key] = _Answer(job.get("tenant", ""), served, text, max_tokens)
            decoding = Decoding(max_tokens, job["temperature"], job["top_p"], job["seed"])
            self._prefills.append(Prefill(Row(key, prompt, decoding)))
            self._emit({"id": key, "prompt_tokens": len(prompt), "fingerprint": served.fingerprint})

    def _guarded(self, rows: Sequence[Row], work: Callable[[T], None], argument: T) -> None:
        """Call `work(argument)`; an exception only fails the answers of `rows`."""
        try:
            work(argument)
        except Exception:
            log.exception("a step failed")
            for row in rows:
                if self._answers.pop(row.key, None) is not None:
                    self._emit_error(row.key, "The model failed while it answered.", "model_failed")

    def _emit_error(self, key: str, message: str, code: str) -> None:
        """Emit an error of the server for the answer `key`."""
        self._emit({"id": key, "error": {"status": 500, "message": message, "param": None, "code": code}})

    def _read_prompt(self, prefill: Prefill) -> None:
        """Read a chunk of a prompt; after the last one, add the row to a batch of its model."""
        served = self._answers[prefill.row.key].served
        size = _CHUNK if self._batches or self._prefills else _CHUNK_ALONE
        logits = read(served.model, prefill, size, served.device)
        if not prefill.complete:
            self._prefills.append(prefill)
            return
        (token,) = self._take(logits, [prefill.row])
        if prefill.row.key not in self._answers:
            return
        new = to_batch(prefill, token, served.device)
        for i, batch in enumerate(self._batches):
            if self._answers[batch.rows[0].key].served is served and can_join(batch) and can_join(new):
                self._batches[i] = join(batch, new)
                return
        self._batches.append(new)

    def _decode(self, batch: Batch) -> None:
        served = self._answers[batch.rows[0].key].served
        batch.newest = self._take(step(served.model, batch), batch.rows)

    def _take(self, logits: Tensor, rows: Sequence[Row]) -> list[int]:
        """Choose each row's next token, emit new text, and remove finished answers."""
        tokens = pick(logits, rows)
        for row, token in zip(rows, tokens, strict=True):
            answer = self._answers[row.key]
            piece = "" if token in answer.served.ends else answer.text.add(token)
            row.made = len(answer.text.tokens)
            finish = None
            if token in answer.served.ends or answer.text.stopped:
                finish = "stop"
            elif len(answer.text.tokens) >= answer.max_tokens:
                finish = "length"
            if finish is not None:
                piece += answer.text.finish()
                finish = "stop" if answer.text.stopped else finish
                del self._answers[row.key]
            if piece or finish:
                self._emit({"id": row.key, "text": piece, "tokens": row.made, "finish": finish})
        return tokens

    def _drop_finished(self) -> None:
        """Remove the rows of answers that are finished, failed or cancelled."""
        self._prefills = deque(prefill for prefill in self._prefills if prefill.row.key in self._answers)
        batches = []
        for batch in self._batches:
            kept = [i for i, row in enumerate(batch.rows) if row.key in self._answers]
            if kept:
                batches.append(batch if len(kept) == len(batch.rows) else keep(batch, kept))
        self._batches = batches


def _prompt(served: Served, job: Job) -> list[int]:
    """Return the tokens of a request's prompt. Raises `Refused` if it is empty, too long, or not renderable."""
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
        raise Refused(400, "The prompt is empty.", _param(job), "invalid_value")
    return tokens


def _token_limit(served: Served, job: Job, size: int) -> int:
    """Return the limit of an answer to a prompt of `size` tokens: `max_tokens`, or the rest of the context."""
    remaining, requested = served.context - size, job["max_tokens"]
    if remaining < 1:
        raise _too_long(served, job, f"{size} tokens")
    if requested is not None and requested > remaining:
        raise _too_long(served, job, f"{size} tokens, and {requested} are asked for")
    return remaining if requested is None else int(requested)


def _too_long(served: Served, job: Job, has: str) -> Refused:
    message = f"This model reads and writes at most {served.context} tokens, and the prompt has {has}."
    return Refused(400, message, _param(job), "context_length_exceeded")


def _param(job: Job) -> str:
    return "prompt" if job["turns"] is None else "messages"
