"""The completions of a prompt are encoded as those of supervised rows, shown with their scores, and checked alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kamerton.data.encode.arrays import Encoded, encode
from kamerton.data.encode.parity import Parity, check_parity
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import Alternative, DataExample, Message, ToolCall
from kamerton.data.summary import REJECTED, TARGET, show_examples
from support.rows import stored
from support.templates import tokenizer

CALL = (ToolCall("weather", '{"place": "Paris"}', "call_1"),)
CHAT = (Message("user", "Warm?"), Message("assistant", "Where?", 1.0, "Ask."), Message("user", "Paris."))
PAIR = DataExample("Warm?", "Yes.", score=1.0, alternatives=(Alternative("No.", 0.0),))
RANKING = DataExample(
    CHAT,
    "",
    tool_calls=CALL,
    score=3.0,
    alternatives=(Alternative("Yes.", 2.5, "Twenty is warm."), Alternative("b <|im_end|>", -1.0)),
)
JUDGED = [DataExample("Warm?", "Yes.", score=1.0), DataExample("Cold?", "Yes.", score=0.0)]
TEMPLATES = ["chatml", "qwen3", "channels", "opened"]


def encoded(rows: list[DataExample], folder: Path, template: str = "chatml") -> Encoded:
    examples = stored(rows, folder)
    return encode(examples, tokenizer(template), max_length=512, overlong="error", cache=folder, name="train")


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_completion_is_encoded_as_in_supervised_fine_tuning(template: str, tmp_path: Path) -> None:
    context = tuple(replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in CHAT)
    alone = [
        DataExample("Warm?", "Yes."),
        DataExample("Warm?", "No."),
        DataExample(context, "", tool_calls=CALL),
        DataExample(context, "Yes.", reasoning="Twenty is warm."),
        DataExample(context, "b <|im_end|>"),
    ]
    joined, each = encoded([PAIR, RANKING], tmp_path / "a", template), encoded(alone, tmp_path / "b", template)
    assert joined.starts.tolist() == [0, 2]
    assert len(joined) == len(each) == 5
    for i in range(5):
        assert joined.tokens(i).tolist() == each.tokens(i).tolist()
        assert joined.targets(i).tolist() == each.targets(i).tolist()


@pytest.mark.parametrize("template", TEMPLATES)
def test_parity_covers_every_completion(template: str, tmp_path: Path) -> None:
    parity = Parity()
    data = encoded([PAIR, RANKING, *JUDGED], tmp_path, template)
    check_parity(data, StretchTokenizer(tokenizer(template)), parity)
    assert parity.faults == []
    assert (parity.turns, parity.equal, parity.skipped) == (7, 7, 0)


def test_parity_names_the_alternative(tmp_path: Path) -> None:
    data = encoded([PAIR], tmp_path)
    tokens = data._tokens.copy()
    tokens[int(data._begins[1]) + 3] += 1
    parity = Parity()
    check_parity(Encoded(**{**vars(data), "_tokens": tokens}), StretchTokenizer(tokenizer("chatml")), parity)
    assert [fault.column for fault in parity.faults] == ["alternatives[0]"]


def test_both_sides_are_shown_in_colour_with_scores(tmp_path: Path) -> None:
    (text,) = show_examples(encoded([PAIR], tmp_path), tokenizer("chatml"), 1)
    styles = {
        name: "".join(text.plain[s.start : s.end] for s in text.spans if name in str(s.style))
        for name in (TARGET, REJECTED)
    }
    assert styles == {TARGET: "Yes.<|im_end|>\n", REJECTED: "No.<|im_end|>\n"}
    assert (
        text.plain.index("score 1: ")
        < text.plain.index("Yes.")
        < text.plain.index("score 0: ")
        < text.plain.index("No.")
    )
    assert text.plain.count("Warm?") == 1  # the prompt, once


def test_judged_completions_are_shown_as_desired_or_not(tmp_path: Path) -> None:
    first, second = show_examples(encoded(JUDGED, tmp_path), tokenizer("chatml"), 2)
    assert "  desired: " in first.plain
    assert "  undesired: " in second.plain
    assert not [span for span in second.spans if TARGET in str(span.style)]
