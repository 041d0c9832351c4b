"""Conversion of examples and jobs to and from a fine-tuning API."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kamerton.config.hosted import hosted_name
from kamerton.data.example import DataExample, Message
from kamerton.data.read.conversations.chat import chat_fields
from kamerton.data.stored import to_example
from kamerton.hosted.convert import chat_file, chat_line, check_chat, left_out
from kamerton.hosted.progress import Rows, latest, merge, metric_row, write_rows
from kamerton.monitor.series import read_rows

CHAT = DataExample(
    (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hi.", 0.0), Message("user", "Why?")),
    "Because.",
    {"secret": "kept here"},
)


def test_turns_keep_their_roles_order_and_weights_and_metadata_stay_here() -> None:
    assert chat_line(CHAT) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hi.", "weight": 0},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
        ]
    }


@pytest.mark.parametrize("example", [CHAT, DataExample("Zażółć\n gęślą", "jaźń 🎉")])
def test_what_is_sent_reads_back_as_the_same_example(example: DataExample) -> None:
    (line,) = chat_file([example]).content.decode().removesuffix("\n").split("\n")
    fields, faults = chat_fields(json.loads(line)["messages"], "messages", lambda *_: "error")  # type: ignore[arg-type]
    assert fields is not None
    assert not faults
    assert to_example(fields.prompt, True, fields.completion, None, fields.extras).id == example.id


def test_a_file_is_named_by_its_content() -> None:
    first, same, second = chat_file([CHAT]), chat_file([CHAT]), chat_file([CHAT, CHAT])
    assert first == same
    assert first.name != second.name


def test_reasoning_and_weights_that_cannot_be_sent_are_counted() -> None:
    thought = DataExample(
        (Message("user", "Hi"), Message("assistant", "Hi.", 0.5, "Greet."), Message("user", "Why?")),
        "Because.",
        reasoning="Hm.",
        weight=2.0,
    )
    assert chat_line(thought) == {
        "messages": [{"role": turn.role, "content": turn.content} for turn in thought.messages]
    }
    reasoning, weights = left_out("train", [CHAT, thought, thought])
    assert "4 turns of 2 train examples" in reasoning.message
    assert "4 turns of 2 train examples" in weights.message
    assert {fault.severity for fault in (reasoning, weights)} == {"warning"}
    (reasoning,) = left_out("test", [CHAT, thought])  # whose answers are not sent
    assert "1 turns of 1 test examples" in reasoning.message
    assert not list(left_out("train", [CHAT]))


def test_all_refused_settings_are_reported_together() -> None:
    rows = [DataExample((Message("user", "a"), Message("tool", "b")), "c"), DataExample((), "d")]
    result = {fault.code for fault in check_chat("train", rows, chat_file(rows))}
    assert result == {"hosted.few", "hosted.role", "hosted.no-prompt"}
    assert not list(check_chat("validation", [CHAT], chat_file([CHAT])))


@pytest.mark.parametrize(
    ("name", "hosted"),
    [
        ("gpt-3.5-turbo", "gpt-3.5-turbo"),
        ("o4-mini", "o4-mini"),
        ("o1", "o1"),
        ("ft:gpt-4o:me::x", "ft:gpt-4o:me::x"),
        ("chatgpt-4o-latest", "chatgpt-4o-latest"),
        ("openai/tiny", "tiny"),
        ("openai/gpt-oss-20b", None),
        ("gpt2", None),
        ("olmo", None),
        ("EleutherAI/gpt-neo-125m", None),
        ("Qwen/Qwen3-0.6B", None),
    ],
)
def test_which_names_are_hosted(name: str, hosted: str | None) -> None:
    assert hosted_name(name) == hosted


def test_metrics_have_the_names_that_every_run_has(tmp_path: Path) -> None:
    rows: Rows = {}
    data = {"step": 1, "train_loss": 2.0, "train_mean_token_accuracy": 0.5, "valid_loss": None, "note": "x"}
    assert metric_row(data) == {"train/loss": 2.0, "train/token_accuracy": 0.5, "train/perplexity": math.exp(2)}
    assert merge(rows, [(1, metric_row(data)), (2, metric_row({"full_valid_loss": 1.5}))])
    assert not merge(rows, [(1, metric_row(data))])
    assert merge(rows, [(2, metric_row({"train_loss": 1.0}))])
    write_rows(tmp_path / "metrics.csv", rows, steps_per_epoch=2)
    read = dict(read_rows(tmp_path / "metrics.csv"))
    assert read[1]["epoch"] == 0.5
    assert {key: read[2][key] for key in ("train/loss", "val/loss")} == {"train/loss": 1.0, "val/loss": 1.5}
    result = latest(rows)
    assert result["best"] == result["validation"]
    assert (result["validation"]["step"], result["train"]["loss"]) == (2, 1.0)
