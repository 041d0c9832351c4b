"""From a request to the constraint of its answer: JSON that fits a schema, and calls whose arguments do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kamerton.data.example import Message
from kamerton.data.read.conversations.reasoning import CLOSE, OPEN
from kamerton.score.calls import parse_answer
from kamerton.server.generation.call_form import CallForm, call_form
from kamerton.server.generation.constraint import Constraint, ConstraintError
from kamerton.server.generation.grammar import calls_grammar, json_grammar, schema_problem
from kamerton.server.generation.model_cache import Served
from kamerton.server.generation.prompts import Refused

Job = Mapping[str, Any]
Schemas = dict[str, tuple[dict[str, Any], bool]]  # by function: of its arguments, whether unknown keywords are ignored
_SCHEMA = "response_format.json_schema.schema"
_INVALID = "invalid_json_schema"


def constraint_work(
    served: Served, job: Job, opening: Sequence[int], *, thinking: bool
) -> Callable[[], Constraint] | None:
    """Return a function that builds the constraint of an answer; None for an answer without one, as most are.

    The function takes up to seconds, and may run beside the engine. It raises `Refused` for schemas that cannot be
    used. `opening` are the first tokens of the answer, which are given. Raises `Refused` if the tokenizer or the form
    of the model's calls cannot be used.
    """
    schema, forced = job.get("schema"), job.get("call_names") or ()
    functions = [tool["function"] for tool in json.loads(job["tools"])] if job.get("tools") else []
    if schema is None and not forced and not any(function.get("strict") for function in functions):
        return None
    try:
        tokenizer = served.grammar_tokenizer
    except ConstraintError as error:
        if schema is None:
            return None  # calls stay free
        message = f"The tokenizer of this model cannot be used for JSON: {error}"
        raise Refused(400, message, "response_format", "unsupported_value") from error
    form, schemas, single = None, {}, job.get("single_call", False)
    if functions:
        form = call_form(served, tokenizer, [Message.from_list(turn) for turn in job["turns"]], job["tools"])
        schemas = {each["name"]: _arguments(each) for each in functions if not forced or each["name"] in forced}
    places = {function["name"]: i for i, function in enumerate(functions)}
    if forced:
        return None if form is None else lambda: _forced(tokenizer, form, schemas, places, opening, single=single)
    if schema is not None:
        if functions and form is None:
            message = "This model does not write the arguments of calls as JSON: with tools, leave response_format out"
            raise Refused(400, message, "response_format", "unsupported_value")
        begins = served.tokenizer.get_vocab().get(OPEN)
        calls = "" if form is None else form.rules(schemas, single=single)
        return lambda: _content(tokenizer, schema, calls, schemas, places, begins, thinking=thinking)
    tag = None if form is None else form.tag()
    if form is None or tag is None:
        return None  # strict functions of a form in which the beginning of a call is not known
    return lambda: _begun(tokenizer, form, tag, schemas, places, single=single)


def _arguments(function: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the schema of a function's arguments, an object, and whether unsupported keywords are ignored."""
    return {"type": "object"} | (function.get("parameters") or {}), not function.get("strict")


def _content(
    tokenizer: Any,
    schema: dict[str, Any],
    calls: str,
    schemas: Schemas,
    places: Mapping[str, int],
    begins: int | None,
    *,
    thinking: bool,
) -> Constraint:
    """Return the constraint of JSON, or calls instead. Reasoning is free: it ends before the JSON begins."""
    if (problem := schema_problem(schema)) is not None:
        raise _refused(_SCHEMA, *problem)
    _check(schemas, places)
    grammar = json_grammar(schema, spaced=thinking or begins is not None, calls=calls)
    try:
        if thinking:
            return Constraint(tokenizer, grammar, after=CLOSE)
        return Constraint(tokenizer, grammar, opening=begins, closing=CLOSE)
    except ConstraintError as error:
        raise Refused(400, f"{_SCHEMA} cannot be used: {error}", _SCHEMA, _INVALID) from error


def _forced(
    tokenizer: Any, form: CallForm, schemas: Schemas, places: Mapping[str, int], opening: Sequence[int], *, single: bool
) -> Constraint:
    """Return the constraint of an answer that is calls of the functions in `schemas`."""
    _check(schemas, places)
    try:
        return Constraint(tokenizer, calls_grammar(form.rules(schemas, single=single)), prefix=opening)
    except ConstraintError as error:
        raise Refused(400, f"The functions cannot be used: {error}", "tools", _INVALID) from error


def _begun(
    tokenizer: Any, form: CallForm, tag: str, schemas: Schemas, places: Mapping[str, int], *, single: bool
) -> Constraint:
    """Return the constraint of calls wherever an answer begins one."""
    _check(schemas, places)
    try:
        grammar = calls_grammar(form.rules(schemas, single=single, tag=tag))
        return Constraint(tokenizer, grammar, after=tag, repeats=True)
    except ConstraintError as error:
        raise Refused(400, f"The functions cannot be used: {error}", "tools", _INVALID) from error


def _check(schemas: Schemas, places: Mapping[str, int]) -> None:
    """Raise `Refused` for the first function whose schema cannot be used."""
    for name, (schema, lenient) in schemas.items():
        param = f"tools.{places[name]}.function.parameters"
        if schema["type"] != "object":
            raise _refused(param, "type", "the arguments of a call are an object")
        if (problem := schema_problem(schema, lenient=lenient)) is not None:
            raise _refused(param, *problem)


def _refused(param: str, place: str, reason: str) -> Refused:
    return Refused(400, f"{param}{f' at {place}' if place else ''}: {reason}", param, _INVALID)


class FirstCall:
    """Whether an answer, while it is generated, has a complete call; `tools` and `thinking` as in `parse_answer`."""

    def __init__(self, tools: str, *, thinking: bool) -> None:
        self._text, self._tools, self._thinking = "", tools, thinking

    def complete(self, piece: str) -> bool:
        """Add a piece of the answer; return whether its first call is complete."""
        self._text += piece
        if "}" not in piece and ">" not in piece and "]" not in piece:
            return False
        calls = parse_answer(self._text, self._tools, thinking=self._thinking).calls
        # Arguments between tags are read as far as they are written.
        open_tags = "<function=" in self._text and "</function>" not in self._text
        return bool(calls) and calls[0].arguments is not None and not open_tags
