"""The fallback form: a chat template of ours in front of a model's own, for what that one cannot write.

It turns tools, calls, results and reasoning into texts of ordinary turns, in the form of Hermes and Qwen: `<tools>` in
the system turn, `<tool_call>` and `<think>` in the assistant's, `<tool_response>` in a user's. The model's template
then writes those turns. A developer turn becomes a system turn if the template does not know the role. Chats without
any of these are written as by the model's template alone.
"""

from __future__ import annotations

from collections.abc import Collection

TOOLS, CALLS, PARALLEL, BESIDE = "tools", "calls", "several calls in a turn", "text beside calls"
RESULTS, REASONING = "results", "reasoning"
DEVELOPER = "developer turns (as system turns)"
NO_SYSTEM = "system"  # the template takes no system turn: the tools are written in the first user's
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")  # names under which templates read it

_INTRODUCTION = (
    "# Functions\\n\\nThese functions can be called; each line defines one as JSON.\\n<tools>\\n",
    "</tools>\\n\\nA call is a JSON object with the name of the function and its arguments, between tags:\\n"
    '<tool_call>\\n{"name": "NAME", "arguments": {}}\\n</tool_call>\\n'
    "Several calls are written one after another. Results follow between <tool_response> tags.",
)

_DEVELOPER = """\
{%- set kamerton_turns = namespace(all=[]) %}
{%- for turn in messages %}
{%- set turn = dict(turn, role='system') if turn.role == 'developer' else turn %}
{%- set kamerton_turns.all = kamerton_turns.all + [turn] %}
{%- endfor %}
{%- set messages = kamerton_turns.all %}
"""
_TOOLS = f"""\
{{%- if tools %}}
{{%- set kamerton.tools = '{_INTRODUCTION[0]}' %}}
{{%- for tool in tools %}}{{% set kamerton.tools = kamerton.tools + (tool | tojson) + '\\n' %}}{{% endfor %}}
{{%- set kamerton.tools = kamerton.tools + '{_INTRODUCTION[1]}' %}}
{{%- endif %}}
"""
_IN_SYSTEM = """\
{%- if kamerton.tools %}
{%- if messages and messages[0].role in ['system', 'developer'] %}
{%- set first = dict(messages[0], content=messages[0].content + '\\n\\n' + kamerton.tools) %}
{%- set messages = [first] + messages[1:] %}
{%- else %}
{%- set messages = [{'role': 'system', 'content': kamerton.tools}] + messages %}
{%- endif %}
{%- endif %}
"""
_IN_USER = """\
{%- if kamerton.tools and messages and messages[0].role == 'user' %}
{%- set first = dict(messages[0], content=kamerton.tools + '\\n\\n' + messages[0].content) %}
{%- set messages = [first] + messages[1:] %}
{%- endif %}
"""
_LAST = """\
{%- for turn in messages %}
{%- if turn.role == 'user' %}{% set kamerton.last = loop.index0 %}{% endif %}
{%- if turn.tool_calls %}{% set kamerton.called = true %}{% endif %}
{%- endfor %}
"""
_THOUGHT = """\
{%- set thought = turn.reasoning_content or turn.reasoning or turn.thinking or '' %}
{%- if thought and loop.index0 > kamerton.last %}
{%- set kamerton.text = '<think>\\n' + thought + '\\n</think>\\n\\n' + kamerton.text %}
{%- endif %}
"""
_CALLS = """\
{%- for call in turn.tool_calls %}
{%- set function = call.function or call %}
{%- set arguments = function.arguments if function.arguments is string else function.arguments | tojson %}
{%- set kamerton.text = kamerton.text + ('\\n' if kamerton.text and kamerton.text[-1] != '\\n' else '') %}
{%- set kamerton.text = kamerton.text + '<tool_call>\\n{"name": ' %}
{%- set kamerton.text = kamerton.text + (function.name | tojson) + ', "arguments": ' + arguments %}
{%- set kamerton.text = kamerton.text + '}\\n</tool_call>' %}
{%- endfor %}
"""
_RESULT = """\
{%- elif turn.role == 'tool' and (ALWAYS or kamerton.rewritten) %}
{%- set result = '<tool_response>\\n' + (turn.content or '') + '\\n</tool_response>' %}
{%- if kamerton.answering %}
{%- set result = kamerton.turns[-1].content + '\\n' + result %}
{%- set kamerton.turns = kamerton.turns[:-1] %}
{%- endif %}
{%- set kamerton.turns = kamerton.turns + [{'role': 'user', 'content': result}] %}
{%- set kamerton.answering = true %}
"""


def fallback_template(template: str, missing: Collection[str]) -> str:
    """Return a template that rewrites what is in `missing`, and gives the rest to `template`."""
    if DEVELOPER in missing:
        template = _DEVELOPER + template
    if not set(missing) - {DEVELOPER}:
        return template
    in_text = _condition(missing)
    rewritten = f"turn.tool_calls and ({in_text})" if in_text else "false"
    parts = [
        "{%- set kamerton = namespace(turns=[], last=-1, called=false, answering=false) %}\n",
        "{%- set kamerton.rewritten = false %}{% set kamerton.tools = '' %}{% set kamerton.text = '' %}\n",
        *([_TOOLS, _IN_USER if NO_SYSTEM in missing else _IN_SYSTEM] if TOOLS in missing else []),
        _LAST,
        "{%- for turn in messages %}\n",
        "{%- if turn.role == 'assistant' and (turn.tool_calls or turn.reasoning_content or turn.reasoning"
        " or turn.thinking) %}\n",
        "{%- set kamerton.text = turn.content or '' %}\n",
        _THOUGHT if REASONING in missing else "",
        f"{{%- set rewritten = {rewritten} %}}\n{{%- if rewritten %}}\n{_CALLS}{{%- endif %}}\n",
        "{%- set answer = {'role': 'assistant', 'content': kamerton.text} %}\n",
        _given("tool_calls", "turn.tool_calls and not rewritten"),
        *(_given(key, f"turn.{key}") for key in (REASONING_KEYS if REASONING not in missing else ())),
        "{%- set kamerton.turns = kamerton.turns + [answer] %}{% set kamerton.answering = false %}\n",
        "{%- set kamerton.rewritten = rewritten %}\n",
        _RESULT.replace("ALWAYS", "tools or kamerton.called" if RESULTS in missing else "false"),
        "{%- else %}\n",
        "{%- set kamerton.turns = kamerton.turns + [turn] %}{% set kamerton.answering = false %}\n",
        "{%- if turn.role != 'tool' %}{% set kamerton.rewritten = false %}{% endif %}\n",
        "{%- endif %}\n{%- endfor %}\n",
        "{%- set messages = kamerton.turns %}\n",
        "{%- set tools = none %}\n" if TOOLS in missing else "",
    ]
    return "".join(parts) + template


def _given(key: str, condition: str) -> str:
    """Return the part that gives a field of the turn to the template."""
    return f"{{%- if {condition} %}}{{% set answer = dict(answer, {key}=turn.{key}) %}}{{% endif %}}\n"


def _condition(missing: Collection[str]) -> str:
    """Return the condition under which the calls of a turn become text."""
    if CALLS in missing:
        return "true"
    conditions = ["turn.tool_calls | length > 1"] if PARALLEL in missing else []
    conditions += ["kamerton.text"] if BESIDE in missing else []
    return " or ".join(conditions)
