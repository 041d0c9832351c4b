"""From a request to the tokens that the model reads, and to those with which its answer has to begin."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from kamerton.data.encode.render import RenderError
from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.score.calls import parse_answer
from kamerton.server.generation.chat_limits import CHARACTERS, prompt_characters
from kamerton.server.generation.model_cache import Served

Job = Mapping[str, Any]
_ARGUMENTS = ("{}", '{"kamerton": 1}')  # two that differ from the first character on


class Refused(Exception):  # noqa: N818 (it names what happened)
    """Raised for a request that cannot be answered; `error` has the fields of an API error."""

    def __init__(self, status: int, message: str, param: str | None, code: str) -> None:
        self.error = {"status": status, "message": message, "param": param, "code": code}
        super().__init__(message)


def prompt_tokens(served: Served, job: Job) -> list[int]:
    """Return the tokens of a request's prompt. Raises `Refused` if it is empty, too long, or not renderable."""
    turns, tools = job["turns"], job.get("tools", "")
    if prompt_characters(turns, job["text"], tools) > CHARACTERS * served.context:
        raise _too_long(served, job, "far more tokens")
    if turns is None:
        tokens = served.text_tokens(job["text"])
    else:
        try:
            tokens = served.chat_tokens([Message.from_list(turn) for turn in turns], tools)
        except RenderError as error:
            message = f"The model's chat template refuses these messages: {error}"
            raise Refused(400, message, "messages", "invalid_messages") from error
    if not tokens:
        raise Refused(400, "The prompt is empty.", _param(job), "invalid_value")
    return tokens


def call_opening(served: Served, job: Job, thinking: bool) -> list[int]:
    """Return the tokens with which a call of one of the functions `call_names` begins, as the template writes it.

    Raises `Refused` if calls of this template have no such beginning.
    """
    turns, tools = tuple(Message.from_list(turn) for turn in job["turns"]), job["tools"]
    names = sorted(job["call_names"])
    answers = []
    for name in {names[0], names[-1]}:  # what these two have in common, all have
        for arguments in _ARGUMENTS:
            call = ToolCall(name, arguments, "call00000")
            answers.append(served.stretches.completion_of(DataExample(turns, "", tool_calls=(call,), tools=tools)))
            text = served.decode_marked([token for token in answers[-1] if token not in served.ends])
            if [made.name for made in parse_answer(text, tools, thinking=thinking).calls] != [name]:
                raise _not_forced()
    together = zip(*answers, strict=False)
    opening = [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, together)]
    answer = parse_answer(served.decode_marked(opening), tools, thinking=thinking)
    if not (answer.calls or answer.content.strip()):
        raise _not_forced()
    return opening


def _not_forced() -> Refused:
    message = "The chat template of this model writes calls without a fixed beginning: use tool_choice 'auto'"
    return Refused(400, message, "tool_choice", "unsupported_value")


def token_limit(served: Served, job: Job, size: int, opening: int = 0) -> int:
    """Return the limit of an answer to a prompt of `size` tokens: `max_tokens`, or the rest of the context.

    The first `opening` tokens of the answer are given.
    """
    remaining, requested = served.context - size, job["max_tokens"]
    if remaining <= opening:
        raise _too_long(served, job, f"{size + opening} tokens")
    if requested is not None and requested > remaining:
        raise _too_long(served, job, f"{size} tokens, and {requested} are asked for")
    if requested is not None and requested <= opening:
        message = f"A call by this model begins with {opening} tokens: raise max_tokens above that."
        raise Refused(400, message, "max_tokens", "invalid_value")
    return remaining if requested is None else int(requested)


def _too_long(served: Served, job: Job, has: str) -> Refused:
    message = f"This model reads and writes at most {served.context} tokens, and the prompt has {has}."
    return Refused(400, message, _param(job), "context_length_exceeded")


def _param(job: Job) -> str:
    return "prompt" if job["turns"] is None else "messages"
