"""System turns that ask for calls written as `[name(argument=value)]`, as ToolACE's do.

Calls are read as calls and written in the form of the chat template, so that such a turn asks for another form than the
one that is trained on. Its text is only changed if the policy is to fix it.
"""

from __future__ import annotations

import json
import re

from kamerton.data.read.text import Action
from kamerton.data.stored import CALLS, turns_json
from kamerton.errors import Fault

SIGN = "[func"
_LEAD = r"(?:Should you decide to return the function call(?:\(s\)|s)?\.?\s*)?"
DEMAND = re.compile(rf"{_LEAD}[^\n.]*\[\s*func\w*\(\s*param[^\n]*\n?")


def check_asked_form(prompt: str, extras: str | None, action: Action) -> tuple[str, list[Fault]]:
    """Return the turns before the completion (JSON), without such a demand if it is to be fixed, and the fault."""
    if SIGN not in prompt or (CALLS not in prompt and CALLS not in (extras or "")):
        return prompt, []
    turns = json.loads(prompt)
    if turns[0][0] != "system" or not DEMAND.search(turns[0][1]):
        return prompt, []
    fault = Fault(
        "call-form",
        "the system turn asks for calls as [name(argument=value)], and the chat template writes them in its own form",
        "remove that sentence from the system turns: data.policy.call-form=fix",
        column="system",
    )
    if action(fault.code) != "fix":
        return prompt, [fault]
    turns[0][1] = DEMAND.sub("", turns[0][1]).strip()
    return turns_json(turns if turns[0][1] else turns[1:]), [fault]
