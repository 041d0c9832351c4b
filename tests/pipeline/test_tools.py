"""A run on conversations with calls and reasoning: what the model's template cannot write is exported with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import Message, ToolCall
from kamerton.model.tiny import tiny_tokenizer
from support.rows import question, write_jsonl
from support.runs import LEAN, record, trainer

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def conversation(number: int) -> dict[str, object]:
    calls = [{"type": "function", "id": "call_1", "function": {"name": "weather", "arguments": "{}"}}]
    turns = [
        {"role": "user", "content": question(number)},
        {"role": "assistant", "content": None, "reasoning_content": "Look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "20"},
        {"role": "assistant", "content": "Warm.", "reasoning_content": "Twenty.", "weight": 0.5},
    ]
    return {"messages": turns, "tools": TOOLS}


def test_a_run_exports_the_form_that_it_trained_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [conversation(number) for number in range(40)])
    train = trainer(file, tmp_path / "out", *LEAN, "data.near_duplicates=null", "data.max_length=2048")
    run = train("model.export=adapter", "trainer.max_steps=2", "score.mode=reference")
    shown = capsys.readouterr().out
    assert "fallback   " in shown
    assert "turns      " in shown  # the weights of the turns differ
    encoded = {part["split"]: part for part in record(run)["data"]["report"]["encoded"]}
    assert encoded["train"]["sequences"] == 2 * encoded["train"]["examples"]
    exported = AutoTokenizer.from_pretrained(run / "model")
    call = {"type": "function", "id": "call_1", "function": {"name": "weather", "arguments": {}}}
    turns = [{"role": "user", "content": "Warm?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    prompt = exported.apply_chat_template(turns, tools=TOOLS, add_generation_prompt=True, return_dict=False)
    same = (Message("user", "Warm?"), Message("assistant", "", tool_calls=(ToolCall("weather", "{}", "call_1"),)))
    assert StretchTokenizer(tiny_tokenizer()).prompt(same, json.dumps(TOOLS)) == prompt
    assert '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>' in exported.decode(prompt)
