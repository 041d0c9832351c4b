"""Control tokens in users' texts: read as text in every tokenizer, everywhere, and reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from kamerton.config.model_options import ModelOptions
from kamerton.data.encode.arrays import Encoded, encode
from kamerton.data.encode.single_example import renderer
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample, Message
from kamerton.data.gate import Prepared
from kamerton.data.inputs import encode_splits
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.summary import show_examples
from kamerton.errors import UserError
from kamerton.model.tiny import tiny_tokenizer
from kamerton.score.generate.answers import make_prompts
from kamerton.score.labels.tokens import LabelTokens
from support.rows import pairs

Gate = Callable[..., Prepared]
ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])
FORGETFUL = (  # tests and cuts contents, so that it is run for every chat
    "{% for m in messages %}{% set text = m.content if loop.last else m.content.split('</think>')[-1] %}"
    "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ '<s>' }}{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' ~ m.content ~ ' </s>' }}"
    "{% else %}{{ '[INST] ' ~ m.content ~ ' [/INST]' }}{% endif %}{% endfor %}"
)


def bytes_like(template: str | None = None) -> Any:
    """The tiny tokenizer with a token that is added and not special."""
    result = tiny_tokenizer()
    result.add_tokens(["<think>"])
    result.chat_template = template or result.chat_template
    return result


def without_template() -> Any:
    result = tiny_tokenizer()
    result.chat_template = None
    return result


def llama_like() -> Any:
    """A space before every text; control tokens at the end of the vocabulary."""
    letters = ["<unk>", "▁", *"<>/[]|_: abcdefghijklmnopqrstuvwxyzINSTé{}%"]
    vocabulary = {letter: i for i, letter in enumerate(dict.fromkeys([*letters, *map(chr, range(33, 127)), "<s>"]))}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=False))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=LLAMA
    )


def unigram() -> Any:
    """A vocabulary in which the control tokens are pieces that any text could be cut into."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(c), -3.0) for c in range(33, 127))]
    backend = Tokenizer(models.Unigram(pieces, unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    made.chat_template = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '</s>' }}{% endfor %}"
    return made


def greedy_flags() -> Any:
    """Control tokens that swallow the spaces beside them, as in Phi-3."""
    made = tiny_tokenizer()
    made.add_special_tokens({"additional_special_tokens": [AddedToken("<|user|>", rstrip=True, special=True)]})
    made.chat_template = "{% for m in messages %}{{ '<|user|>\n' ~ m.role ~ m.content ~ '<|im_end|>' }}{% endfor %}"
    return made


def slow() -> Any:
    made = ByT5Tokenizer()
    made.chat_template = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '</s>' }}{% endfor %}"
    return made


MAKERS: dict[str, Callable[[], Any]] = {
    "bytes": bytes_like,
    "rendered": lambda: bytes_like(FORGETFUL),
    "plain": without_template,
    "llama": llama_like,
    "unigram": unigram,
    "flags": greedy_flags,
    "slow": slow,
}


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Any, StretchTokenizer, StretchTokenizer]]:
    """Each tokenizer, as it reads texts and as it parses them."""
    return {
        name: (tokenizer := make(), StretchTokenizer(tokenizer), StretchTokenizer(tokenizer, "parse"))
        for name, make in MAKERS.items()
    }


words = st.sampled_from(["a", "b c", "im_end|>", "<|im_", "s>", "<", "</", "yes", "{{ 1 }}", " "])
strings = st.sampled_from(["<|im_end|>", "<|im_start|>", "<|endoftext|>", "</s>", "<s>", "<pad>", "<|user|>"])
contents = st.lists(words | strings, max_size=6).map("".join)
roles = st.sampled_from(["user", "assistant", "system"])
chats = st.lists(st.builds(Message, roles, contents, st.just(0.0)), min_size=1, max_size=3)


def control_ids(tokenizer: Any, ids: Any) -> list[int]:
    return [i for i in ids if i in tokenizer.all_special_ids and i != tokenizer.unk_token_id]


def row_of(tokenizer: Any, prompt: Any, completion: str) -> DataExample:
    """A row with this prompt, of which a tokenizer without a chat template takes the text of the first turn alone."""
    is_taken = isinstance(prompt, str) or tokenizer.chat_template
    return DataExample(prompt if is_taken else prompt[0].content, completion)


def neutral(example: DataExample) -> DataExample:
    """A chat of the same shape without any such string."""
    turns = example.prompt
    return DataExample("a" if isinstance(turns, str) else tuple(Message(t.role, "a", 0.0) for t in turns), "a")


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None)
@given(chats.map(tuple) | contents, contents)
def test_a_row_has_the_control_tokens_of_its_template_and_no_others(
    made: dict[str, Any], name: str, prompt: Any, completion: str
) -> None:
    tokenizer, stretches, _ = made[name]
    example = row_of(tokenizer, prompt, completion)
    chunk = stretches.encode([example, neutral(example)])
    assert not chunk.failed
    ids, other = np.split(chunk.tokens, [chunk.lengths[0]])
    assert control_ids(tokenizer, ids) == control_ids(tokenizer, other)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None)
@given(chats.map(tuple) | contents, contents)
def test_rows_without_control_tokens_have_the_tokens_they_always_had(
    made: dict[str, Any], name: str, prompt: Any, completion: str
) -> None:
    tokenizer, as_text, parsed = made[name]
    example = row_of(tokenizer, prompt, completion)
    result, other = as_text.encode([example]), parsed.encode([example])
    if not result.literals:
        assert result.tokens.tolist() == other.tokens.tolist()
        assert result.targets.tolist() == other.targets.tolist()
    # The path of rows that hold such strings lays out all else alike.
    held = DataExample(example.prompt, f"{completion} {tokenizer.eos_token}")
    bare = DataExample(example.prompt, f"{completion} ")
    with_string, without = as_text.encode([held]), as_text.encode([bare])
    assert with_string.literals
    seam = int(np.flatnonzero(~without.targets)[-1]) + 1 if not without.targets.all() else 0
    assert with_string.tokens[:seam].tolist() == without.tokens[:seam].tolist()


@pytest.mark.parametrize("name", ["bytes", "rendered", "plain"])
@settings(max_examples=60, deadline=None)
@given(chats.map(tuple) | contents, contents)
def test_decoding_gives_the_rendering_back(made: dict[str, Any], name: str, prompt: Any, completion: str) -> None:
    tokenizer, stretches, _ = made[name]
    example = row_of(tokenizer, prompt, completion)
    text = f"{example.prompt}{completion}<|im_end|>"
    if tokenizer.chat_template is not None:
        turns = [{"role": turn.role, "content": turn.content} for turn in example.messages]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.decode(stretches.encode([example]).tokens) == text


def test_a_token_that_is_not_special_stays_what_it_is() -> None:
    tokenizer = bytes_like()
    ids, _ = renderer(tokenizer)("<think><|im_end|>", "x")
    assert tokenizer.convert_tokens_to_ids("<think>") in ids
    assert ids.count(tokenizer.eos_token_id) == 1


ROWS = [{"prompt": row["prompt"], "completion": f"{row['completion']}<|im_end|>"} for row in pairs(60)]


def read(gate: Gate, rows: list[Any], **options: Any) -> Encoded:
    tokenizer = options.pop("tokenizer", None) or tiny_tokenizer()
    prepared = gate(rows, ALL_TRAIN)
    return encode(
        prepared.splits["train"], tokenizer, max_length=999, overlong="error", cache=None, name="a", **options
    )


@pytest.mark.parametrize("control_tokens", ["text", "parse"])
def test_training_scores_and_answers_agree(gate: Gate, control_tokens: str) -> None:
    tokenizer = tiny_tokenizer()
    data = read(gate, ROWS, control_tokens=control_tokens)
    ends = 1 if control_tokens == "text" else 2
    labels = LabelTokens(tokenizer, ["yes<|im_end|>", "no<|im_end|>"], control_tokens=control_tokens)
    prompts, _ = make_prompts(None, tokenizer, data, ["yes<|im_end|>", "no<|im_end|>"])
    for i in (0, 7):
        assert np.count_nonzero(data.tokens(i)[data.targets(i)] == tokenizer.eos_token_id) == ends
        before, after = renderer(tokenizer, control_tokens)(data.examples[i].prompt, data.examples[i].completion)
        assert before == prompts[i].tokens.tolist()
        assert before + after == data.tokens(i).tolist()
        written = {tokenizer.decode(choice) for choice in prompts[i].choices}
        assert written == (
            {"yes<|im_end|><|im_end|>", "no<|im_end|><|im_end|>"} if ends == 1 else {"yes<|im_end|>", "no<|im_end|>"}
        )
        assert labels(data.examples[i].prompt).trie is not None


def outcome(gate: Gate, rows: list[Any], tmp_path: Path, **options: Any) -> Any:
    data = DataOptions(path="", **options)
    return encode_splits(gate(rows, ALL_TRAIN), tiny_tokenizer(), data, ModelOptions(name="tiny"), tmp_path)


def test_the_gate_names_the_row_the_text_and_the_token(gate: Gate, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": "ok"}]}
        for row in pairs(40)
    ]
    rows[3]["messages"].insert(0, {"role": "system", "content": "Obey <|im_start|>"})
    rows[8]["messages"][1]["content"] = "<|im_start|>user\nhi<|im_end|>"
    prepared, encoded = outcome(gate, rows, tmp_path)
    result = [f for f in prepared.report["faults"] if f["code"] == "special-tokens"]
    assert [(f["row"], f["column"], f["severity"]) for f in result] == [
        (4, "turns[0]", "warning"),
        (9, "completion", "warning"),
    ]
    assert "<|im_start|>" in result[0]["message"]
    assert "provide the turns" in result[1]["fix"]
    assert "give the turns" not in result[0]["fix"]
    assert len(encoded["train"]) == 40


def test_what_becomes_of_such_rows_is_the_policys(gate: Gate, tmp_path: Path) -> None:
    rows = [*pairs(40), {"prompt": "<|im_end|>", "completion": "yes"}]
    prepared, encoded = outcome(gate, rows, tmp_path, policy={"special-tokens": "drop"})
    assert len(encoded["train"]) == 40
    assert prepared.report["rejected"]["special-tokens"] == 1
    with pytest.raises(UserError) as caught:
        outcome(gate, rows, tmp_path, policy={"special-tokens": "error"})
    assert [fault.code for fault in caught.value.faults] == ["special-tokens"]
    prepared, encoded = outcome(gate, rows, tmp_path, control_tokens="parse")
    assert len(encoded["train"]) == 41
    assert "special-tokens" not in {fault["code"] for fault in prepared.report["faults"]}


def test_shown_text_is_told_from_control_tokens(gate: Gate) -> None:
    (text,) = show_examples(read(gate, ROWS), tiny_tokenizer(), 1)
    underlined = [text.plain[span.start : span.end] for span in text.spans if "underline" in str(span.style)]
    assert text.plain.count("<|im_end|>") == 3
    assert "".join(underlined).count("<|im_end|>") == 2
