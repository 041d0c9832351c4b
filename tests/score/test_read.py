"""Generated tokens are read as calls, reasoning and content, in every family of chat templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kamerton.data.encode.arrays import Encoded, encode
from kamerton.data.encode.targets import Targets
from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.score.calls import calls_text
from kamerton.score.evaluate import by_turn, choose_mode
from kamerton.score.generate.answers import make_prompts
from kamerton.score.generate.read import AnswerReader
from support.rows import stored
from support.templates import TEMPLATES, tokenizer

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {"name": name, "description": "Ask", "parameters": {"type": "object", "properties": {}}},
        }
        for name in ("weather", "time")
    ]
)
OSLO, ROME = (
    ToolCall("weather", '{"city": "Oslo", "days": 2}', "call_1"),
    ToolCall("time", '{"at": ["Rome"]}', "call_2"),
)
ENDS = {  # of real tokenizers of these families
    "llama3": ["<|eot|>"],
    "mistral": ["</s>"],
    "gemma": ["<end_of_turn>"],
    "channels": ["<|call|>", "<|return|>"],
}
RESULT = Message("tool", "rain", tool_call_id="call_1", name="weather")
EXAMPLES = [
    DataExample("Weather in Oslo?", "", tool_calls=(OSLO,), tools=TOOLS),
    DataExample("Weather and time?", "", tool_calls=(OSLO, ROME), tools=TOOLS),
    DataExample("Weather in Oslo, please?", "", reasoning="It is in Norway.", tool_calls=(OSLO,), tools=TOOLS),
    DataExample("Hi", "Hello, you.", tools=TOOLS),
    DataExample("Why?", "Because.", reasoning="Hm, no idea.", tools=TOOLS),
    DataExample(
        (Message("user", "Weather there?"), Message("assistant", "", tool_calls=(OSLO,)), RESULT), "Rain.", tools=TOOLS
    ),
]


def encoded(examples: list[DataExample], name: str, folder: Path, targets: Targets | None = None) -> Encoded:
    return encode(
        stored(examples, folder / "rows"),
        tokenizer(name),
        max_length=2000,
        overlong="error",
        cache=folder / "cache",
        name="test",
        targets=targets,
    )


@pytest.mark.parametrize("reasoning", [True, False])
@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "opened"])
def test_the_reference_is_read_as_a_perfect_answer(name: str, reasoning: bool, tmp_path: Path) -> None:
    own = tokenizer(name)
    data = by_turn(encoded(EXAMPLES, name, tmp_path, Targets(reasoning=reasoning)), own)
    prompts, ends = make_prompts(None, own, data, None)
    ends |= {own.convert_tokens_to_ids(token) for token in ENDS.get(name, ())}
    read = AnswerReader(own, data, prompts, ends)
    assert len(data) == len(EXAMPLES) + 1  # the last one has two turns
    for i, example in enumerate(data.examples):
        tokens = data.tokens(i)[len(prompts[i].tokens) :].tolist()
        size = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
        row = read(i, tokens[:size])
        assert row["predicted_calls"] == calls_text(example.tool_calls)
        assert row["prediction"].strip() == example.completion
        assert row.get("prediction_reasoning", "") == example.reasoning


def test_calls_that_cannot_be_read_back_are_not_judged(tmp_path: Path) -> None:
    own = tokenizer("qwen25")
    own.chat_template = own.chat_template.replace("<tool_call>", "CALL ").replace("</tool_call>", "")
    data = encode(
        stored(EXAMPLES[:1], tmp_path / "rows"),
        own,
        max_length=2000,
        overlong="error",
        cache=tmp_path / "cache",
        name="test",
    )
    prompts, ends = make_prompts(None, own, data, None)
    text = "CALL"
    assert AnswerReader(own, data, prompts, ends)(0, own.encode(text)) == {"prediction": text}


def test_data_without_functions_are_read_as_text(tmp_path: Path) -> None:
    data, own = encoded([DataExample("Hi", "Ho")], "qwen25", tmp_path), tokenizer("qwen25")
    prompts, ends = make_prompts(None, own, data, None)
    read = AnswerReader(own, data, prompts, ends)
    text = 'a <tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert read(0, own.encode(text)) == {"prediction": own.decode(own.encode(text), skip_special_tokens=True)}
    row = read(0, own.encode("<think>hm</think>Ho"))
    assert (row["prediction"], row["prediction_reasoning"]) == ("Ho", "hm")


def test_answers_are_generated_by_default_if_there_are_functions(tmp_path: Path) -> None:
    from kamerton.config.schema import ScoreOptions

    options = ScoreOptions()
    with_functions, plain = stored(EXAMPLES, tmp_path / "a"), stored([DataExample("Hi", "Ho")], tmp_path / "b")
    assert choose_mode(options, None, with_functions) == "generate"
    assert choose_mode(options, None, plain) == choose_mode(options, None) == "reference"
    assert choose_mode(options, ["yes", "no"], with_functions) == "labels"
    assert choose_mode(ScoreOptions(mode="reference"), None, with_functions) == "reference"
