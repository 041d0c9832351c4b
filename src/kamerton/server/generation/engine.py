"""Generation engine: each step reads a chunk of one prompt and generates one token for every answer.

So a long prompt or answer delays others by at most one step. The engine runs in one thread and emits plain values:
`{"id", "prompt_tokens", "fingerprint", "thinking"}` when a prompt is accepted, `{"id", "text", "tokens", "finish"}` for
new text (`tokens` is the number so far, `finish` is None until the end) with `logprobs` if they are requested, or
`{"id", "error"}`.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from kamerton.errors import RunFailed, UserError
from kamerton.score.generate.sampling import Decoding
from kamerton.server.generation.answer import Answer
from kamerton.server.generation.constrain import FirstCall, constraint_work
from kamerton.server.generation.constraint import Constraint
from kamerton.server.generation.decode import (
    Batch,
    Prefill,
    Row,
    can_join,
    join,
    keep,
    masked,
    pick,
    read,
    step,
    to_batch,
)
from kamerton.server.generation.log_probabilities import log_probabilities
from kamerton.server.generation.model_cache import Models, Served
from kamerton.server.generation.prompts import Refused, call_opening, prompt_tokens, token_limit
from kamerton.server.generation.text_stream import TextStream
from kamerton.server.generation.waiting import Job, WaitingJobs

Emit = Callable[[dict[str, Any]], None]
_CHUNK, _CHUNK_ALONE = 128, 512  # prompt tokens per step, with and without other answers in progress
_PAUSE_S = 0.02  # wait for a constraint if there is nothing else to do

T = TypeVar("T")
log = logging.getLogger(__name__)


class _Admitted(NamedTuple):
    """A request whose answer may start: it begins with the tokens `opening`, and has at most `max_tokens`."""

    job: Job
    served: Served
    prompt: list[int]
    opening: list[int]
    max_tokens: int
    thinking: bool


class Engine:
    """Generates at most `most` answers at once (see `WaitingJobs`) and passes results to `emit`."""

    def __init__(self, models: Models, emit: Emit, most: int) -> None:
        self._models = models
        self._emit = emit
        self._waiting = WaitingJobs(most)
        self._answers: dict[str, Answer] = {}
        self._building: dict[str, tuple[_Admitted, Future[Constraint]]] = {}
        self._builder = ThreadPoolExecutor(1)
        self._prefills: deque[Prefill] = deque()
        self._batches: list[Batch] = []

    @property
    def idle(self) -> bool:
        """Whether there are no requests."""
        return not (self._waiting or self._building or self._answers)

    def add(self, job: Job) -> None:
        """Queue a request."""
        self._waiting.add(job)

    def cancel(self, key: str) -> None:
        """Drop a request; nothing more is emitted for it."""
        self._waiting.drop(key)
        self._answers.pop(key, None)
        self._building.pop(key, None)
        self._drop_finished()

    def step(self) -> None:
        """Admit one request, read a chunk of one prompt, and generate one token for each answer."""
        tenants = Counter(answer.tenant for answer in self._answers.values())
        tenants.update(admitted.job.get("tenant", "") for admitted, _ in self._building.values())
        if (job := self._waiting.next(tenants)) is not None:
            self._admit(job)
        if self._building:
            self._start_built()
        if self._prefills:
            prefill = self._prefills.popleft()
            self._guarded([prefill.row], self._read_prompt, prefill)
        for batch in self._batches:
            self._guarded(batch.rows, self._decode, batch)
        self._drop_finished()

    def _admit(self, job: Job) -> None:
        key = job["id"]
        try:
            used = {answer.served.key for answer in self._answers.values()}
            used |= {admitted.served.key for admitted, _ in self._building.values()}
            served = self._models.get(job["source"], used)
            prompt = prompt_tokens(served, job)
            thinking = job["turns"] is not None and served.is_thinking(prompt)
            opening = call_opening(served, job, thinking) if job.get("call_names") else []
            max_tokens = token_limit(served, job, len(prompt), len(opening))
            work = constraint_work(served, job, opening, thinking=thinking)
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
            admitted = _Admitted(job, served, prompt, opening, max_tokens, thinking)
            if work is not None:
                self._building[key] = (admitted, self._builder.submit(work))
            else:
                self._start(admitted, None)

    def _start_built(self) -> None:
        """Start the answers whose constraints have been built."""
        if not (self._prefills or self._batches):
            wait([future for _, future in self._building.values()], _PAUSE_S, FIRST_COMPLETED)
        for key, (admitted, future) in list(self._building.items()):
            if not future.done():
                continue
            del self._building[key]
            try:
                self._start(admitted, future.result())
            except Refused as refused:
                self._emit({"id": key, "error": refused.error})
            except Exception:
                log.exception("request %s failed before its first token", key)
                self._emit_error(key, "The constraint of the answer cannot be built.", "model_failed")

    def _start(self, admitted: _Admitted, constraint: Constraint | None) -> None:
        """Add an answer."""
        job, served, prompt, opening, max_tokens, thinking = admitted
        key, is_chat = job["id"], job["turns"] is not None
        cleans = bool(getattr(served.tokenizer, "clean_up_tokenization_spaces", False))
        text = TextStream(served.decode_marked if is_chat else served.decode, job["stop"], cleans=cleans)
        first_call = FirstCall(job["tools"], thinking=thinking) if job.get("single_call") else None
        tenant, top = job.get("tenant", ""), job.get("logprobs")
        self._answers[key] = Answer(tenant, served, text, max_tokens, top, constraint, first_call)
        decoding = Decoding(max_tokens, job["temperature"], job["top_p"], job["seed"])
        self._prefills.append(Prefill(Row(key, [*prompt, *opening], decoding, len(opening), constraint)))
        accepted = {"prompt_tokens": len(prompt), "fingerprint": served.fingerprint, "thinking": thinking}
        self._emit({"id": key, **accepted})
        if piece := "".join(map(text.add, opening)):
            if first_call is not None:
                first_call.complete(piece)
            self._emit({"id": key, "text": piece, "tokens": len(opening), "finish": None})

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
        tokens = pick(masked(logits, rows), rows)
        for row, token, row_logits in zip(rows, tokens, logits, strict=True):
            if row.constraint is not None and (problem := row.constraint.add(token)):
                del self._answers[row.key]
                message = f"The answer cannot be constrained to its schema: {problem}"
                self._emit_error(row.key, message, "constraint_failed")
                continue
            answer = self._answers[row.key]
            if answer.top is not None and token not in answer.served.ends:
                answer.logprobs.append(log_probabilities(answer.served, row_logits, token, answer.top))
            piece, finish = answer.add(token)
            row.made = len(answer.text.tokens)
            if finish is not None:
                piece += answer.text.finish()
                finish = "stop" if answer.text.stopped else finish
                del self._answers[row.key]
            if piece or finish:
                logprobs = {"logprobs": answer.logprobs} if answer.logprobs else {}
                answer.logprobs = []
                self._emit({"id": row.key, "text": piece, "tokens": row.made, "finish": finish, **logprobs})
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
