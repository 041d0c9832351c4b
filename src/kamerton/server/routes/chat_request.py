"""Request schemas of `/v1/chat/completions` and `/v1/completions`.

Every parameter of OpenAI's API is either honoured or refused; values that describe the default behaviour are accepted.
`user`, `safety_identifier` and `prompt_cache_key` are accepted and have no effect on answers.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field

from kamerton.server.errors import ApiError
from kamerton.server.generation.client import GenerationRequest
from kamerton.server.routes.answer_parts import Reading
from kamerton.server.routes.chat_turns import ToolChoice, Tools, Turn, read_turns, tools_text
from kamerton.server.routes.request_types import Name, Strict, Text, Unsupported
from kamerton.server.routes.response_format import ResponseFormat

_MAX_TURNS = 512  # of a chat
_MAX_CHOICES = 8  # answers to one request
_COMPLETION_TOKENS = 16  # default `max_tokens` of /v1/completions, as in OpenAI's API


def _unwrap(prompt: Any) -> Any:
    """Return the only prompt of a list, or the prompt itself."""
    return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str) else prompt


Stops = Annotated[
    list[Annotated[Text, Field(min_length=1, max_length=256)]],
    Field(max_length=4),
    BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop),
]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class StreamOptions(Strict):
    """With `include_usage` a last chunk has the number of tokens."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class _Common(Strict):
    model: Annotated[Text, Field(max_length=512)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Count | None = None
    stop: Stops | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: Unsupported = None
    user: Name | None = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with a chunk for the usage. Raises `ApiError` for stream options without a stream."""
        if self.stream_options is not None and not self.stream:
            message = "stream_options is only allowed when stream is true"
            raise ApiError(400, message, "stream_options", "invalid_value")
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """Return the sampling options of a `GenerationRequest`; without a seed, a random one."""
        return {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "seed": secrets.randbits(63) if self.seed is None else self.seed,
            "stop": tuple(self.stop or ()),
        }


class ChatRequest(_Common):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=_MAX_TURNS, fail_fast=True)]
    max_completion_tokens: Count | None = None
    response_format: ResponseFormat | None = None
    n: Annotated[int, Field(ge=1, le=_MAX_CHOICES)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    audio: Unsupported = None
    function_call: Unsupported = None
    functions: Unsupported = None
    metadata: Unsupported = None
    moderation: Unsupported = None
    prediction: Unsupported = None
    prompt_cache_options: Unsupported = None
    prompt_cache_retention: Unsupported = None
    reasoning_effort: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None

    def generation(self, source: Path | str) -> GenerationRequest:
        """Return the generation request for the model at `source`. Raises `ApiError` if two limits are given."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            message = "max_tokens and max_completion_tokens are the same: give one of them"
            raise ApiError(400, message, "max_tokens", "invalid_value")
        if self.top_logprobs is not None and not self.logprobs:
            message = "top_logprobs is only allowed when logprobs is true"
            raise ApiError(400, message, "top_logprobs", "invalid_value")
        max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        reading = self.reading()
        return GenerationRequest(
            source,
            turns=read_turns(self.messages),
            tools=reading.tools,
            call_names=self._call_names(),
            single_call=isinstance(self.tool_choice, ToolChoice) or (reading.calls and not reading.parallel),
            max_tokens=max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            schema=None if self.response_format is None else self.response_format.schema_of_content(),
            **self.sampling(),
        )

    def reading(self) -> Reading:
        """Return how answers are read. With `tool_choice` "none" the model reads no functions."""
        tools = tools_text(self.tools or ()) if self.tool_choice != "none" else ""
        return Reading(tools, bool(tools), self.parallel_tool_calls is not False)

    def _call_names(self) -> tuple[str, ...]:
        """Return the functions of which the answer has to call one. Raises `ApiError` if they are not in `tools`."""
        if self.tool_choice in (None, "none", "auto"):
            return ()
        names = tuple(tool["function"]["name"] for tool in cast("list[dict[str, Any]]", self.tools or ()))
        if self.tool_choice == "required":
            if not names:
                raise ApiError(400, "tool_choice 'required' needs tools", "tool_choice", "invalid_value")
            return names
        name = cast("ToolChoice", self.tool_choice).function.name
        if name not in names:
            message = f"tool_choice names {name!r}, which is not among tools"
            raise ApiError(400, message, "tool_choice", "invalid_value")
        return (name,)


class CompletionRequest(_Common):
    """The body of `/v1/completions`."""

    prompt: Annotated[Text, BeforeValidator(_unwrap)]
    n: Literal[1] | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: Unsupported = None
    suffix: Unsupported = None

    def generation(self, source: Path | str) -> GenerationRequest:
        """Return the generation request for the model at `source`."""
        max_tokens = self.max_tokens or _COMPLETION_TOKENS
        return GenerationRequest(source, text=self.prompt, max_tokens=max_tokens, **self.sampling())

    def reading(self) -> None:
        """Return None: answers are text only."""
