"""Calls against the functions that a row defines, and results against calls."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kamerton.data.example import ToolCall
from kamerton.data.read.conversations.calls import write_json
from kamerton.data.read.conversations.schema_cost import is_costly
from kamerton.data.read.conversations.tools import Tools
from kamerton.data.read.conversations.turns import Draft
from kamerton.data.read.text import Action
from kamerton.errors import Fault
from kamerton.words import listed

MAX_SHOWN = 8  # names of functions in a message


def check_calls(drafts: Sequence[Draft], tools: Tools, action: Action) -> list[Fault]:
    """Return the faults of calls (unknown functions, arguments that do not fit) and of results in a conversation.

    Arguments that are null without being allowed to are removed if the policy is to fix them.
    """
    faults: list[Fault] = []
    if tools.text:
        for draft in drafts:
            for i, (call, place) in enumerate(draft.calls):
                fixed, null_faults = _without_nulls(call, place, tools)
                if null_faults and action(null_faults[0].code) == "fix":
                    draft.calls[i] = (fixed, place)
                faults += null_faults or _check_call(call, place, tools)
    return faults + _check_results(drafts)


def _without_nulls(call: ToolCall, place: str, tools: Tools) -> tuple[ToolCall, list[Fault]]:
    """Return a call without the null arguments that its function does not take, and their fault."""
    schema = tools.schemas.get(call.name)
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if "null" not in call.arguments or not isinstance(properties, Mapping) or not properties:
        return call, []
    arguments = json.loads(call.arguments)
    kept = {key: value for key, value in arguments.items() if value is not None or _takes_null(properties.get(key))}
    if len(kept) == len(arguments):
        return call, []
    names = ", ".join(key for key in arguments if key not in kept)
    message = f"{names} of {call.name} {'are' if ',' in names else 'is'} null, which its parameters do not allow"
    fix = "remove such arguments: data.policy.null-arguments=fix"
    fixed = replace(call, arguments=write_json(kept))
    return fixed, [Fault("null-arguments", message, fix, column=f"{place}.arguments")]


def _takes_null(schema: object) -> bool:
    """Return whether a parameter may be null; a parameter that is not defined may not."""
    if not isinstance(schema, Mapping):
        return schema is True
    kinds = schema.get("type", "null" if "enum" not in schema or None in schema["enum"] else None)
    return schema.get("nullable") is True or "null" in (kinds if isinstance(kinds, list) else [kinds])


def _check_call(call: ToolCall, place: str, tools: Tools) -> list[Fault]:
    if call.name not in tools.validators:
        names = list(tools.validators)
        near = difflib.get_close_matches(call.name, names, n=1)
        shown = listed(names, MAX_SHOWN)
        message = f"{call.name} is not among the functions that the row defines ({shown})"
        fix = f"did you mean {near[0]}? " if near else ""
        return [_fault("unknown-function", message, f"{fix}Correct the name, or define it in tools", place)]
    validator, arguments = tools.validators[call.name], json.loads(call.arguments)
    if call.name in tools.referring and is_costly(tools.schemas[call.name], arguments):
        message = f"the references in the schema of {call.name} are too many to check its arguments"
        return [_fault("arguments-schema", message, "simplify the schema", f"{place}.arguments")]
    problem = "" if validator is None else _problem(validator, arguments)
    if not problem:
        return []
    message = f"the arguments of {call.name} do not fit its parameters: {problem}"
    return [_fault("arguments-schema", message, "correct the arguments or the schema", f"{place}.arguments")]


def _fault(code: str, message: str, fix: str, place: str) -> Fault:
    """Return a fault of a row that may also be kept as it is."""
    return Fault(code, message, f"{fix}; to keep such rows as they are, data.policy.{code}=warn", column=place)


def _problem(validator: Any, arguments: object) -> str:
    """Return the first problem of arguments under a schema, with its path, else ""."""
    error = next(iter(validator.iter_errors(arguments)), None)
    if error is None:
        return ""
    path = ".".join(map(str, error.instance_path))
    return f"{path}: {error.message}" if path else str(error.message)


def _check_results(drafts: Sequence[Draft]) -> list[Fault]:
    """Return the faults of results and of the ids of calls; calls at the end may be without results."""
    faults: list[Fault] = []
    waiting: list[tuple[ToolCall, str]] = []
    ids: set[str] = set()
    for draft in drafts:
        if draft.role == "tool":
            faults += _check_result(draft, waiting)
            continue
        if draft.role in ("user", "assistant"):
            for call, place in waiting:
                message = f"the call of {call.name} has no result before {draft.place}"
                fix = "add its result as a turn of role tool, or remove the call"
                faults.append(_fault("unanswered-call", message, fix, place))
            waiting = list(draft.calls)
        for call, place in draft.calls:
            if call.id is not None and call.id in ids:
                message = f"the id {call.id!r} is also that of an earlier call"
                faults.append(_fault("call-id", message, "give each call an id of its own", place))
            ids |= {call.id} if call.id is not None else set()
    return faults


def _check_result(draft: Draft, waiting: list[tuple[ToolCall, str]]) -> list[Fault]:
    """Take the call of a result out of `waiting` and return the faults.

    A result without an id is that of the first waiting call, or of the first with its name.
    """
    if not waiting:
        message, fix = "the result follows no call", "add the call before it, or remove the result"
        return [_fault("stray-result", message, fix, draft.place)]
    if draft.call_id is not None:
        at = next((i for i, (call, _) in enumerate(waiting) if call.id == draft.call_id), None)
        if at is None:
            ids = ", ".join(str(call.id) for call, _ in waiting)
            message = f"the result has the id {draft.call_id!r}, but the calls before it have {ids}"
            waiting.pop(0)
            return [_fault("call-id", message, "write the id of its call", f"{draft.place}.tool_call_id")]
    else:
        at = next((i for i, (call, _) in enumerate(waiting) if call.name == draft.name), 0)
    call, _ = waiting.pop(at)
    if draft.name not in (None, call.name):
        message = f"the result is named {draft.name}, but the call is of {call.name}"
        return [_fault("call-id", message, f"write {call.name}", f"{draft.place}.name")]
    return []
