"""The messages of a chat in OpenAI's format, with calls, results and reasoning, and the definitions of functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WrapValidator
from pydantic_core import PydanticCustomError

from kamerton.data.example import Message, ToolCall
from kamerton.data.read.conversations.calls import read_arguments, write_json
from kamerton.data.read.conversations.tools import openai_definitions
from kamerton.data.read.text import SURROGATES
from kamerton.server.errors import ApiError
from kamerton.server.routes.request_types import Name, Strict, Text, Unsupported

_MAX_CALLS = 128  # of a message, and functions of a request


def _join_parts(content: Any) -> Any:
    """Join a turn's list of text parts, as in training data."""
    if not isinstance(content, list):
        return content
    if not content:
        raise PydanticCustomError("empty_content", "has no part")
    for i, part in enumerate(content):
        if not (isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            message = "part {number} is not of type text: models here read only text"
            raise PydanticCustomError("unsupported_content", message, {"number": i})
    return "".join(part["text"] for part in content)


def _arguments(text: str) -> str:
    """Return arguments as training data have them."""
    arguments, problem = read_arguments(text)
    if problem:
        raise PydanticCustomError("invalid_arguments", "is not the JSON of an object")
    return arguments


def _unchanged(value: Any, check: Any) -> Any:
    """Check a value and return it with the order of its keys, which the model reads."""
    check(value)
    return value


FunctionName = Annotated[Text, Field(min_length=1, max_length=256)]


class CalledFunction(Strict):
    """The name of a function and the JSON of its arguments; `parsed_arguments` is what OpenAI's client adds."""

    name: FunctionName
    arguments: Annotated[Text, AfterValidator(_arguments)]
    parsed_arguments: Any = None


class Call(Strict):
    """A call by the assistant; `index` is its number in a stream."""

    id: Annotated[Text, Field(min_length=1, max_length=512)]
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Turn(Strict):
    """One message of a chat. Fields that the API's answers have besides may be sent back as null."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text | None, BeforeValidator(_join_parts)] = None
    reasoning_content: Text | None = None
    tool_calls: Annotated[list[Call], Field(max_length=_MAX_CALLS, fail_fast=True)] | None = None
    tool_call_id: Text | None = None
    name: Name | None = None
    refusal: Unsupported = None
    parsed: Unsupported = None
    annotations: Unsupported = None
    audio: Unsupported = None
    function_call: Unsupported = None


class FunctionDefinition(Strict):
    """A function that may be called. With `strict` the arguments of its calls fit `parameters`."""

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """The definition of a function."""

    type: Literal["function"]
    function: FunctionDefinition


Tools = Annotated[list[Annotated[Tool, WrapValidator(_unchanged)]], Field(max_length=_MAX_CALLS, fail_fast=True)]


class ChosenFunction(Strict):
    """The name of a function that is to be called."""

    name: FunctionName


class ToolChoice(Strict):
    """The choice of one function."""

    type: Literal["function"]
    function: ChosenFunction


def tools_text(tools: Sequence[Any]) -> str:
    """Return definitions as `DataExample` has them. Raises `ApiError` if two functions have one name."""
    try:
        text = write_json(openai_definitions(list(tools))) if tools else ""
    except ValueError as error:
        raise ApiError(400, f"tools does not define functions: {error}", "tools", "invalid_value") from None
    if SURROGATES.search(text):
        raise ApiError(400, "tools contains half of a surrogate pair, which is no character", "tools", "invalid_value")
    return text


def read_turns(turns: Sequence[Turn]) -> tuple[list[Any], ...]:
    """Return turns as `Message.to_list` does. Raises `ApiError` for fields that do not fit the role or the calls."""
    waiting: list[str] = []  # ids of calls without a result so far
    for i, turn in enumerate(turns):
        _check_fields(turn, f"messages.{i}")
        if turn.role == "tool":
            if turn.tool_call_id not in waiting:
                message = f"messages.{i}.tool_call_id is not the id of a call in the message of the assistant before it"
                raise ApiError(400, message, f"messages.{i}.tool_call_id", "invalid_value")
            waiting.remove(str(turn.tool_call_id))
        elif waiting:
            message = f"messages.{i} follows a call without a result: add a message of role tool for {waiting[0]!r}"
            raise ApiError(400, message, f"messages.{i}.role", "invalid_value")
        waiting = waiting + [call.id for call in turn.tool_calls or ()]
    return tuple(_message(turn).to_list() for turn in turns)


def _check_fields(turn: Turn, place: str) -> None:
    """Check that a message has only the fields of its role."""
    if turn.content is None and not (turn.role == "assistant" and turn.tool_calls):
        raise ApiError(400, f"{place}.content is required", f"{place}.content", "missing_required_parameter")
    if turn.role == "tool" and turn.tool_call_id is None:
        message = f"{place}.tool_call_id is required"
        raise ApiError(400, message, f"{place}.tool_call_id", "missing_required_parameter")
    owners = {"tool_calls": "assistant", "reasoning_content": "assistant", "tool_call_id": "tool", "name": "tool"}
    for name, role in owners.items():
        if turn.role != role and getattr(turn, name):
            message = f"{place}.{name} is only supported in messages of role {role}: leave it out"
            raise ApiError(400, message, f"{place}.{name}", "invalid_value")


def _message(turn: Turn) -> Message:
    calls = tuple(ToolCall(call.function.name, call.function.arguments, call.id) for call in turn.tool_calls or ())
    return Message(
        turn.role, turn.content or "", 1.0, turn.reasoning_content or "", calls, turn.tool_call_id, turn.name
    )
