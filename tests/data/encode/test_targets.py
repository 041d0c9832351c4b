"""What is trained on: the switches, weights of turns, windows of long texts, and the check of parity."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.config.model_options import ModelOptions
from kamerton.data.encode.arrays import Encoded, encode
from kamerton.data.encode.parity import Parity, check_parity
from kamerton.data.encode.single_example import answer_ending
from kamerton.data.encode.targets import Targets
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.data.faults import FaultLog
from kamerton.data.gate import Prepared
from kamerton.data.inputs import encode_splits
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.store import Examples
from kamerton.data.summary import data_losses
from kamerton.errors import UserError
from kamerton.score.generate.answers import make_prompts
from support.rows import pairs, question, stored
from support.templates import tokenizer

Gate = Callable[..., Prepared]
ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])
CALL = (ToolCall("weather", '{"place": "Paris"}', "call_1"),)
CHAT = (
    Message("user", "Warm?"),
    Message("assistant", "", 1.0, "Look it up.", CALL),
    Message("tool", "20", tool_call_id="call_1"),
    Message("assistant", "Yes.", 1.0, "Twenty is warm."),
    Message("user", "Sure?"),
)
EXAMPLE = DataExample(CHAT, "Quite.", {}, "It is.")


def learnt(example: DataExample, template: str = "qwen3", **targets: Any) -> list[tuple[str, str]]:
    """The context and the targets of each sequence, as texts; targets that do not touch are separated by `¦`."""
    model = tokenizer(template)
    chunk = StretchTokenizer(model, targets=Targets(**targets)).encode([example])
    assert not chunk.failed
    result = []
    cuts = np.cumsum(chunk.lengths)[:-1]
    for ids, mask in zip(np.split(chunk.tokens, cuts), np.split(chunk.targets, cuts), strict=True):
        ends = np.flatnonzero(np.diff(np.r_[False, mask, False].astype(int)))
        runs = [model.decode(ids[a:b]) for a, b in zip(ends[::2], ends[1::2], strict=True)]
        result.append((model.decode(ids[: ends[0]] if len(ends) else ids), "¦".join(runs)))
    return result


def test_every_trained_turn_has_its_own_prompt_and_reasoning() -> None:
    (_, call), (before_answer, answer), (before_last, last) = learnt(EXAMPLE)
    assert call.startswith("<think>\nLook it up.\n</think>")
    assert '{"name": "weather", "arguments": {"place": "Paris"}}' in call
    assert "Look it up." in before_answer  # of the turns after the last question, as the template has it
    assert answer == "<think>\nTwenty is warm.\n</think>\n\nYes.<|im_end|>\n"
    assert "<think>" not in before_last
    assert last == "<think>\nIt is.\n</think>\n\nQuite.<|im_end|>\n"


def test_calls_or_answers_alone_are_trained_on() -> None:
    (only,) = learnt(EXAMPLE, train_on="calls")
    assert "<tool_call>" in only[1]
    assert "Yes." not in only[1]
    assert [target.split("\n")[1] for _, target in learnt(EXAMPLE, train_on="answers")] == ["Twenty is warm.", "It is."]


def test_without_its_reasoning_a_turn_keeps_its_tags_and_its_answer_as_targets() -> None:
    for before, target in learnt(EXAMPLE, reasoning=False)[1:]:
        first, rest = target.split("¦")
        assert first == "<think>"
        assert rest in ("</think>\n\nYes.<|im_end|>\n", "</think>\n\nQuite.<|im_end|>\n")
        assert before.endswith("assistant\n")


@pytest.mark.parametrize(("how", "kept"), [("keep", ["Look it up.", "Twenty is warm."]), ("drop", [])])
def test_reasoning_of_earlier_turns_is_kept_or_dropped(how: str, kept: list[str]) -> None:
    context = learnt(EXAMPLE, earlier_reasoning=how)[-1]
    text = "".join(context)
    assert [thought for thought in ("Look it up.", "Twenty is warm.") if thought in text] == kept
    assert text.count("<think>") == len(kept) + 1
    assert text.endswith("<think>\nIt is.\n</think>\n\nQuite.<|im_end|>\n")


def encoded(examples: list[DataExample], folder: Path, template: str = "qwen3", **options: Any) -> Encoded:
    settings = {"max_length": 9999, "overlong": "error", "cache": None, "name": "train"} | options
    return encode(stored(examples, folder), tokenizer(template), **settings)


def test_turns_of_different_weights_are_sequences_with_weights(tmp_path: Path) -> None:
    turns = (Message("user", "a"), Message("assistant", "b", 0.5), Message("user", "c"))
    chats = [DataExample(turns, "d", weight=2.0), DataExample("a", "b"), DataExample("e", "f", weight=0.25)]
    data = encoded(chats, tmp_path, "chatml")
    assert data.weights is not None
    assert data.weights.tolist() == [0.5, 2.0, 1.0, 0.25]
    assert data.examples.rows.tolist() == [0, 0, 1, 2]
    assert [example.weight for example in data.examples] == [0.5, 2.0, 1.0, 0.25]
    assert data.select(np.array([3, 0])).weights.tolist() == [0.25, 0.5]
    assert data.without_parts().weights.tolist() == [2.0, 1.0, 0.25]


def test_weights_of_one_change_nothing(tmp_path: Path) -> None:
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    data = encoded([DataExample(turns, "d")], tmp_path, "chatml")
    assert data.weights is None
    assert (len(data), data.examples.parts, data.report["further_turns"]) == (1, None, 0)


def test_parts_belong_to_their_rows_in_views_repetitions_and_the_policy(tmp_path: Path) -> None:
    rows = [DataExample("a", "b"), EXAMPLE, DataExample("c", "d")]
    data = encoded(rows, tmp_path)
    assert data.examples.rows.tolist() == [0, 1, 1, 1, 2]
    assert (data.report["examples"], data.report["sequences"], data.report["dropped"]) == (3, 5, 0)
    assert len(set(data.ids.to_pylist())) == 5
    assert data.ids[3].as_py() == EXAMPLE.id
    repeated = data.examples.store
    view = Examples(repeated, np.array([1, 0, 1]), np.arange(3))
    again = encode(view, tokenizer("qwen3"), max_length=9999, overlong="error", cache=None, name="train")
    assert again.examples.rows.tolist() == [1, 1, 1, 0, 1, 1, 1]
    assert again.tokens(0).tolist() == again.tokens(4).tolist() == data.tokens(1).tolist()


def test_a_long_text_is_cut_into_windows_that_lose_and_repeat_no_target(gate: Gate, tmp_path: Path) -> None:
    rows = [{"text": " ".join(question(i) for i in range(k, k + 1 + 5 * (k % 3)))} for k in range(30)]
    prepared = gate(rows, ALL_TRAIN)
    model = tokenizer("chatml")
    settings: dict[str, Any] = {"cache": tmp_path, "name": "train"}
    whole = encode(prepared.splits["train"], model, max_length=9999, overlong="error", **settings)
    cut = encode(prepared.splits["train"], model, max_length=16, overlong="chunk", **settings)
    assert cut.lengths.max() <= 16
    assert cut.report["further_windows"] == len(cut) - len(whole)
    assert cut.report["lost_target_percent"] == 0
    at = 0
    for i in range(len(whole)):
        trained: list[int] = []
        while at < len(cut) and cut.examples.rows[at] == whole.examples.rows[i]:
            ids, mask = cut.tokens(at), cut.targets(at)
            assert mask.sum() == cut.target_counts[at] == len(ids) - 1
            trained += ids[mask].tolist()
            at += 1
        assert trained == whole.tokens(i)[1:].tolist()
    assert at == len(cut)
    assert len(set(cut.ids.to_pylist())) == len(cut)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(1, 40))
def test_windows_of_any_size_cover_a_text(most: int, words: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        example = DataExample((), "x " * words)
        whole = encoded([example], Path(folder), "chatml")
        cut = encoded([example], Path(folder), "chatml", max_length=most, overlong="chunk")
        trained = [token for i in range(len(cut)) for token in cut.tokens(i)[cut.targets(i)].tolist()]
        assert trained == whole.tokens(0)[1:].tolist()


def test_chats_that_are_too_long_stay_a_fault_with_windows(gate: Gate) -> None:
    prepared = gate([*pairs(30), {"prompt": "long " * 100, "completion": "yes"}], ALL_TRAIN, labels=None)
    train = prepared.splits["train"]
    with pytest.raises(UserError, match="not plain text") as caught:
        encode(train, tokenizer("chatml"), max_length=99, overlong="chunk", cache=None, name="train")
    assert caught.value.faults[0].row == 31
    texts = gate([{"text": "long " * 100 + question(i)} for i in range(30)], ALL_TRAIN).splits["train"]
    with pytest.raises(UserError) as caught:
        encode(texts, tokenizer("chatml"), max_length=99, overlong="error", cache=None, name="train")
    assert "data.overlong=chunk" in caught.value.faults[0].fix


def test_windows_without_plain_text_are_a_warning(gate: Gate) -> None:
    train = gate([*pairs(30)], ALL_TRAIN, labels=None).splits["train"]
    texts = gate([{"text": question(i)} for i in range(30)], ALL_TRAIN).splits["train"]
    for examples, expected in ((train, ["unused-setting"]), (texts, [])):
        log = FaultLog()
        encode(examples, tokenizer("chatml"), max_length=512, overlong="chunk", cache=None, name="train", log=log)
        assert [fault.code for fault in log.grouped() if fault.column == "data.overlong"] == expected


@pytest.mark.parametrize("template", ["chatml", "qwen3", "channels", "opened", "bare"])
@pytest.mark.parametrize("targets", [Targets(), Targets(reasoning=False), Targets("answers", earlier_reasoning="drop")])
def test_parity_counts_every_trained_turn(template: str, targets: Targets, tmp_path: Path) -> None:
    rows = [EXAMPLE, DataExample("a", "b <|im_end|>"), DataExample((), "text"), DataExample(CHAT[:1], "No.")]
    data = encoded(rows, tmp_path, template, targets=targets)
    parity = Parity()
    check_parity(data, StretchTokenizer(tokenizer(template), targets=targets), parity)
    assert parity.faults == []
    turns = 4 if targets.train_on == "answers" else 5
    assert (parity.turns, parity.equal, parity.skipped) == (turns, turns, 1)


def test_parity_shows_the_first_differing_token(tmp_path: Path) -> None:
    data = encoded([DataExample("a", "b"), DataExample("c", "d")], tmp_path, "chatml")
    tokens, targets = data._tokens.copy(), data._targets.copy()
    changed = Encoded(**{**vars(data), "_tokens": tokens, "_targets": targets})
    begin = int(data._begins[1])
    tokens[begin + 3] += 1
    targets[int(data._begins[0]) + 2] = True
    parity = Parity()
    check_parity(changed, StretchTokenizer(tokenizer("chatml")), parity)
    assert (parity.turns, parity.equal) == (2, 0)
    first, second = parity.faults
    assert (first.code, first.row, first.message) == ("parity", 1, "the targets are not the tokens of the turn")
    assert second.message.startswith("token 3 of the prompt is ")
    assert second.row == 2
    assert parity.describe() == "0 of 2 trained turns"


def test_the_fallback_form_is_reported(gate: Gate, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    rows = [
        {
            "messages": [{"role": "user", "content": question(i)}, {"role": "assistant", "content": "yes"}],
            "tools": tools,
        }
        for i in range(30)
    ]
    prepared = gate(rows, ALL_TRAIN)
    options = DataOptions(path="")
    for template, expected in (("chatml", "tools: not supported"), ("qwen25", "")):
        model = tokenizer(template, merging=False)
        prepared_, encoded_ = encode_splits(prepared, model, options, ModelOptions(name="tiny"), tmp_path)
        text = dict(data_losses(prepared_.facts)).get("fallback", "")
        assert text.startswith(expected)
        assert bool(text) is bool(expected)
        assert json.loads(encoded_["train"].examples[0].tools)[0]["function"]["name"] == "weather"


def test_the_prompt_of_an_answer_has_no_reasoning_of_its_own(tmp_path: Path) -> None:
    model = tokenizer("qwen3")
    data = encoded([EXAMPLE], tmp_path, targets=Targets(reasoning=False))
    prompts, ends = make_prompts(None, model, data, None)
    assert [model.decode(prompt.tokens)[-10:] for prompt in prompts] == ["assistant\n"] * 3
    assert ends == {model.eos_token_id}


def test_the_end_of_an_answer_is_the_token_after_it_not_one_that_begins_it() -> None:
    model = tokenizer("channels")
    assert model.convert_ids_to_tokens(answer_ending(model)) == ["<|return|>"]
    model = tokenizer("qwen3")
    assert model.decode(answer_ending(model)) == "<|im_end|>\n"
