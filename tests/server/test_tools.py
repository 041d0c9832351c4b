"""An agent's requests through OpenAI's client: calls, results and reasoning; the tokens come from scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from kamerton.server.generation import engine as engine_module
from support.in_process import InProcess, client_of
from support.serving import Served, until, upload

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": CITY, "strict": True}}
    for name, about in (("get_weather", "The weather in a city."), ("get_time", "The time in a city."))
]
QUESTION: dict[str, Any] = {"role": "user", "content": "Weather and time in Oslo?"}


def call(name: str, city: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': {'city': city}})}\n</tool_call>"


class Scripted(InProcess):
    """The tokens are those of the next script instead of a model's choice."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.prompts: list[str] = []
        self.running: dict[str, list[int]] = {}

    def pick(self, logits: Any, rows: Any) -> list[int]:
        tokenizer = self.models.get("tiny", ()).tokenizer
        for row in rows:
            if row.key not in self.running:
                self.prompts.append(tokenizer.decode(row.prompt))
                self.running[row.key] = tokenizer.encode(self.scripts.pop(0) + "<|im_end|>")
        return [self.running[row.key][row.made] for row in rows]


@dataclass
class Agent:
    """A client of a server, and the server's generator."""

    client: openai.OpenAI
    generator: Scripted

    def ask(self, *scripts: str, messages: Any = (QUESTION,), streamed: bool = False, **more: Any) -> Any:
        """The completion of a request whose answer is the script."""
        self.generator.scripts[:] = scripts
        own = {"model": "tiny", "messages": list(messages), "tools": TOOLS, "max_tokens": 500}
        if not streamed:
            return self.client.chat.completions.create(**own | more)
        with self.client.chat.completions.stream(**own | more) as stream:
            return stream.get_final_completion()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    generator = Scripted()
    with pytest.MonkeyPatch.context() as patch, client_of(generator, tmp_path_factory.mktemp("agent")) as client:
        patch.setattr(engine_module, "pick", generator.pick)
        yield Agent(client, generator)


def run_agent(agent: Agent, streamed: bool) -> tuple[list[Any], list[tuple[str, str]]]:
    """The messages of a conversation, and the calls made, until an answer has no calls."""
    tools = {"get_weather": lambda city: f"4 degrees in {city}", "get_time": lambda city: f"noon in {city}"}
    scripts = [
        f"<think>\nI have to look.\n</think>\n\nLooking.\n{call('get_weather', 'Oslo')}",
        f"{call('get_time', 'Oslo')}\n{call('get_weather', 'Bergen')}",
        "It is 4 degrees at noon. <b>Bye</b>",
    ]
    messages: list[Any] = [QUESTION]
    made = []
    for script in scripts:
        choice = agent.ask(script, messages=messages, streamed=streamed).choices[0]
        messages.append(choice.message)  # as OpenAI's documentation does
        assert choice.finish_reason == ("tool_calls" if choice.message.tool_calls else "stop")
        for each in choice.message.tool_calls or ():
            made.append((each.function.name, each.function.arguments))
            result = tools[each.function.name](**json.loads(each.function.arguments))
            messages.append({"role": "tool", "tool_call_id": each.id, "content": result})
    return messages, made


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_agent_calls_two_functions_in_three_turns(server: Agent, streamed: bool) -> None:
    server.generator.prompts.clear()
    messages, made = run_agent(server, streamed)
    oslo, bergen = '{"city": "Oslo"}', '{"city": "Bergen"}'
    assert made == [("get_weather", oslo), ("get_time", oslo), ("get_weather", bergen)]
    assert messages[1].reasoning_content == "I have to look."
    assert messages[1].content == "Looking."
    assert not messages[3].content
    assert messages[-1].content == "It is 4 degrees at noon. <b>Bye</b>"
    first, second, third = server.generator.prompts
    assert "<tools>" in first
    assert '"name": "get_time"' in first
    assert second.endswith("4 degrees in Oslo\n</tool_response><|im_end|>\n<|im_start|>assistant\n")
    assert call("get_weather", "Oslo") in second
    assert "I have to look." in second  # the reasoning of a turn whose calls it has to continue
    assert "noon in Oslo\n</tool_response>\n<tool_response>\n4 degrees in Bergen" in third


def test_calls_are_streamed_with_index_id_name_and_arguments(server: Agent) -> None:
    script = f"Both.\n{call('get_weather', 'Oslo')}\n{call('get_time', 'Oslo')}"
    chunks = list(server.ask(script, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    calls = [each for delta in deltas for each in delta.tool_calls or ()]
    assert [(each.index, each.function.name) for each in calls] == [(0, "get_weather"), (1, "get_time")]
    assert len({each.id for each in calls}) == 2
    assert {each.type for each in calls} == {"function"}
    assert "".join(delta.content or "" for delta in deltas) == "Both."
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "tool_calls"]
    assert chunks[-1].usage.completion_tokens == len(script)


def test_an_answer_that_is_cut_within_a_call_has_none(server: Agent) -> None:
    choice = server.ask(call("get_weather", "Oslo"), max_tokens=30).choices[0]
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "length")
    assert choice.message.content.startswith('{"name": "get_we')


def test_a_choice_of_functions_begins_the_answer(server: Agent) -> None:
    script = call("get_time", "Oslo")
    function = {"type": "function", "function": {"name": "get_time"}}
    for choice, opening in ((function, '{"name": "get_time", "arguments": {'), ("required", '{"name": "get_')):
        server.generator.prompts.clear()
        answer = server.ask(script, tool_choice=choice)
        assert answer.choices[0].message.tool_calls[0].function.name == "get_time"
        assert server.generator.prompts[0].endswith(f"<|im_start|>assistant\n<tool_call>\n{opening}")
        ended = script.removesuffix("\n</tool_call>") if choice is function else script  # one call ends with its JSON
        assert answer.usage.completion_tokens == len(ended)
        assert server.ask(script, tool_choice=choice, streamed=True).usage is None
    with pytest.raises(openai.BadRequestError) as caught:
        server.ask(script, tool_choice=function, max_tokens=5)
    assert caught.value.param == "max_tokens"


def test_an_answer_ends_with_its_first_call_unless_calls_may_be_parallel(server: Agent) -> None:
    first = f"Both.\n{call('get_weather', 'Oslo')}"
    for strict in (False, True):
        tools = [{**tool, "function": {**tool["function"], "strict": strict}} for tool in TOOLS]
        for streamed in (False, True):
            script = f"{first}\n{call('get_time', 'Oslo')}"
            choice = server.ask(script, tools=tools, parallel_tool_calls=False, streamed=streamed).choices[0]
            assert [each.function.name for each in choice.message.tool_calls] == ["get_weather"]
            assert (choice.message.content, choice.finish_reason) == ("Both.", "tool_calls")
        usage = server.ask(script, tools=tools, parallel_tool_calls=False).usage
        assert usage.completion_tokens == len(first.removesuffix("\n</tool_call>"))
    coder = "<tool_call>\n<function=get_time>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>"
    tools = [{**tool, "function": {**tool["function"], "strict": False}} for tool in TOOLS]
    made = server.ask(f"{coder}\n{coder}", tools=tools, parallel_tool_calls=False).choices[0].message.tool_calls
    assert [each.function.arguments for each in made] == ['{"city": "Oslo"}']


def test_without_a_choice_of_functions_calls_are_text(server: Agent) -> None:
    server.generator.prompts.clear()
    message = server.ask(call("get_time", "Oslo"), tool_choice="none").choices[0].message
    assert (message.content, message.tool_calls) == (call("get_time", "Oslo"), None)
    assert "<tools>" not in server.generator.prompts[0]


def test_reasoning_is_apart_from_content_without_tools(server: Agent) -> None:
    for streamed in (False, True):
        script = "<think>\n2 + 2\n</think>\n\n4 "
        message = server.ask(script, tools=openai.NOT_GIVEN, streamed=streamed).choices[0].message
        assert (message.reasoning_content, message.content) == ("2 + 2", "4 ")


CALLED = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": '{"city": "Oslo"}'}}
BROKEN = {**CALLED, "function": {"name": "f", "arguments": "x"}}
ASSISTANT: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
RESULT: dict[str, Any] = {"role": "tool", "tool_call_id": "c1", "content": "noon"}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": [QUESTION, RESULT]}, "messages.1.tool_call_id"),
        ({"messages": [QUESTION, ASSISTANT, {**RESULT, "tool_call_id": "c2"}]}, "messages.2.tool_call_id"),
        ({"messages": [QUESTION, ASSISTANT, {"role": "tool", "content": "x"}]}, "messages.2.tool_call_id"),
        ({"messages": [QUESTION, ASSISTANT, QUESTION]}, "messages.2.role"),
        ({"messages": [{**QUESTION, "tool_calls": [CALLED]}]}, "messages.0.tool_calls"),
        ({"messages": [QUESTION, {**ASSISTANT, "tool_calls": None}]}, "messages.1.content"),
        (
            {
                "messages": [
                    QUESTION,
                    {**ASSISTANT, "tool_calls": [BROKEN]},
                ]
            },
            "messages.1.tool_calls.0.function.arguments",
        ),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "colour": 1}}]}, "tools.0.function.colour"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"n": 9}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
    ],
)
def test_wrong_tools_and_turns_are_refused_by_name(server: Agent, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.ask("never", **more)
    assert caught.value.param == param


def test_several_choices_are_streamed_apart(server: Agent) -> None:
    scripts = ["First.", call("get_time", "Oslo"), "Third."]
    for streamed in (False, True):
        answer = server.ask(*scripts, n=3, streamed=streamed)
        contents = {choice.message.content for choice in answer.choices if choice.message.content}
        assert contents == {"First.", "Third."}
        assert sorted(choice.finish_reason for choice in answer.choices) == ["stop", "stop", "tool_calls"]
        assert [choice.index for choice in answer.choices] == [0, 1, 2]


@pytest.mark.slow
def test_a_job_trains_on_calls(served: Served, warm_jobs: None) -> None:
    answer = {"role": "assistant", "content": "Noon."}
    questions = [{**QUESTION, "content": f"Time {i}?"} for i in range(12)]
    rows = [{"messages": [question, ASSISTANT, RESULT, answer], "tools": TOOLS} for question in questions]
    client = served.client()
    file = upload(client, "".join(json.dumps(row) + "\n" for row in rows).encode(), "calls.jsonl")
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file, hyperparameters={"n_epochs": 1})
    assert until(client, job.id, "succeeded", "failed", "cancelled").status == "succeeded"
