"""From a request to the constraint of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.data.read.conversations.reasoning import CLOSE, OPEN
from kamerton.server.generation.constraint import Constraint, ConstraintError
from kamerton.server.generation.grammar import json_grammar, schema_problem
from kamerton.server.generation.model_cache import Served
from kamerton.server.generation.prompts import Refused

Job = Mapping[str, Any]
_SCHEMA = "response_format.json_schema.schema"


def is_constrained(job: Job) -> bool:
    """Return whether an answer has a constraint. Most have none, and their path has no code for it."""
    return job.get("schema") is not None


def build_constraint(served: Served, job: Job, *, thinking: bool) -> Constraint:
    """Return the constraint of an answer. This takes up to seconds, and runs beside the engine.

    Reasoning is free: it ends before the JSON begins. Raises `Refused` if the schema or the tokenizer cannot be used.
    """
    schema = job["schema"]
    if (problem := schema_problem(schema)) is not None:
        place, reason = problem
        raise Refused(400, f"{_SCHEMA}{f' at {place}' if place else ''}: {reason}", _SCHEMA, "invalid_json_schema")
    begins = _token(served, OPEN)
    grammar = json_grammar(schema, spaced=thinking or begins is not None)
    try:
        tokenizer = served.grammar_tokenizer
    except ConstraintError as error:
        message = f"The tokenizer of this model cannot be used for JSON: {error}"
        raise Refused(400, message, "response_format", "unsupported_value") from error
    try:
        if thinking:
            return Constraint(tokenizer, grammar, after=CLOSE)
        return Constraint(tokenizer, grammar, opening=begins, closing=CLOSE)
    except ConstraintError as error:
        raise Refused(400, f"{_SCHEMA} is too complex: {error}", _SCHEMA, "invalid_json_schema") from error


def _token(served: Served, text: str) -> int | None:
    """Return the token of a text that is one token."""
    token = served.tokenizer.get_vocab().get(text)
    return None if token is None else int(token)
