"""Request schemas of `/v1/chat/completions` and `/v1/completions`.

Every parameter of OpenAI's API is either honoured or refused; values that describe the default behaviour are accepted.
`user`, `safety_identifier` and `prompt_cache_key` are accepted and have no effect on answers.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WrapValidator
from pydantic_core import PydanticCustomError

from kamerton.server.errors import ApiError
from kamerton.server.generation.client import GenerationRequest

_MAX_TURNS = 512  # of a chat
_COMPLETION_TOKENS = 16  # default `max_tokens` of /v1/completions, as in OpenAI's API


def _unicode(text: str) -> str:
    """Refuse a lone surrogate, which JSON can escape but UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("invalid_text", "holds half of a surrogate pair, which is no character") from None
    return text


def _refuse_unless_none(value: Any, _: Any) -> None:
    if value is not None:
        raise PydanticCustomError("unsupported", "is not supported here: leave it out")


def _join_parts(content: Any) -> Any:
    """Join a turn's list of text parts, as in training data."""
    if not isinstance(content, list):
        return content
    if not content:
        raise PydanticCustomError("empty_content", "holds no part")
    for i, part in enumerate(content):
        if not (isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            message = "part {number} is not of type text: models here read text alone"
            raise PydanticCustomError("unsupported_content", message, {"number": i})
    return "".join(part["text"] for part in content)


def _unwrap(prompt: Any) -> Any:
    """Return the only prompt of a list, or the prompt itself."""
    return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str) else prompt


Text = Annotated[str, AfterValidator(_unicode)]
Unsupported = Annotated[None, WrapValidator(_refuse_unless_none)]
Stops = Annotated[
    list[Annotated[Text, Field(min_length=1, max_length=256)]],
    Field(max_length=4),
    BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop),
]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Name = Annotated[str, Field(max_length=512)]  # bounded, since error messages repeat it


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Turn(_Strict):
    """One message of a chat. Fields that the API's answers have besides the text may be sent back as null."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text, BeforeValidator(_join_parts)]
    name: Unsupported = None
    refusal: Unsupported = None
    annotations: Unsupported = None
    audio: Unsupported = None
    function_call: Unsupported = None
    tool_calls: Unsupported = None
    tool_call_id: Unsupported = None


class StreamOptions(_Strict):
    """With `include_usage` a last chunk holds the number of tokens."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class TextFormat(_Strict):
    """The only supported format of answers."""

    type: Literal["text"]


class _Common(_Strict):
    model: Annotated[Text, Field(max_length=512)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Count | None = None
    stop: Stops | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
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
    response_format: TextFormat | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
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
    parallel_tool_calls: Unsupported = None
    prediction: Unsupported = None
    prompt_cache_options: Unsupported = None
    prompt_cache_retention: Unsupported = None
    reasoning_effort: Unsupported = None
    tool_choice: Unsupported = None
    tools: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None

    def generation(self, source: Path | str) -> GenerationRequest:
        """Return the generation request for the model at `source`. Raises `ApiError` if two limits are given."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            message = "max_tokens and max_completion_tokens are the same: give one of them"
            raise ApiError(400, message, "max_tokens", "invalid_value")
        turns = tuple((turn.role, turn.content) for turn in self.messages)
        max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return GenerationRequest(source, turns=turns, max_tokens=max_tokens, **self.sampling())


class CompletionRequest(_Common):
    """The body of `/v1/completions`."""

    prompt: Annotated[Text, BeforeValidator(_unwrap)]
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: Unsupported = None
    suffix: Unsupported = None

    def generation(self, source: Path | str) -> GenerationRequest:
        """Return the generation request for the model at `source`."""
        max_tokens = self.max_tokens or _COMPLETION_TOKENS
        return GenerationRequest(source, text=self.prompt, max_tokens=max_tokens, **self.sampling())
