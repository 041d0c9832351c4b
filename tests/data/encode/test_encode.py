"""What is encoded is what the template writes, targets are what must be learnt, and nothing is lost unsaid."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from kamerton.data.encode.arrays import Encoded, encode
from kamerton.data.encode.render import RenderError
from kamerton.data.encode.single_example import render, renderer
from kamerton.data.encode.skeleton import is_opaque
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample, Message
from kamerton.data.faults import FaultLog
from kamerton.data.gate import Prepared
from kamerton.data.options import SplitOptions
from kamerton.errors import UserError
from kamerton.model.limits import ModelLimits
from kamerton.model.tiny import tiny_tokenizer
from support.rows import pairs, question

Gate = Callable[..., Prepared]
ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])

CHATML = tiny_tokenizer().chat_template
SYSTEM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' + m['content'] | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"
)
BARE = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\n' }}{% endfor %}"
UNLIKE = (  # writes an empty thought into the prompt at inference, and none before a finished answer
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think></think>' }}{% endif %}"
)
FORGETFUL = (  # drops the reasoning of earlier turns, like Qwen3
    "{% for m in messages %}{% set text = m.content if loop.last else m.content.split('</think>')[-1] %}"
    "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "system": SYSTEM, "trimmed": TRIMMED, "bare": BARE, "forgetful": FORGETFUL}


def tokenizer(template: str | None = CHATML) -> Any:
    result = tiny_tokenizer()
    result.chat_template = template
    return result


def encoded(prepared: Prepared, template: str | None = CHATML, **options: Any) -> Encoded:
    settings = {"max_length": 4096, "overlong": "error", "cache": None, "name": "train"} | options
    return encode(prepared.splits["train"], tokenizer(template), **settings)


def text_of(result: Encoded, i: int, *, targets: bool = False) -> str:
    tokens = result.tokens(i)[result.targets(i)] if targets else result.tokens(i)
    return str(tokenizer().decode(tokens))


@pytest.mark.parametrize("name", TEMPLATES)
def test_tokens_are_the_full_rendering_and_targets_its_end(gate: Gate, name: str) -> None:
    prepared = gate(pairs(60), ALL_TRAIN)
    result = encoded(prepared, TEMPLATES[name])
    model = tokenizer(TEMPLATES[name])
    for i, example in enumerate(prepared.splits["train"]):
        turns = [{"role": turn.role, "content": turn.content} for turn in example.messages]
        prompt = model.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        assert text_of(result, i) == model.apply_chat_template(turns, tokenize=False)
        assert text_of(result, i, targets=True) == text_of(result, i)[len(prompt) :]
        assert example.completion in text_of(result, i, targets=True)


def test_shapes_and_counts(gate: Gate) -> None:
    prepared = gate(pairs(60), ALL_TRAIN)
    result = encoded(prepared)
    assert len(result) == len(result.ids) == 60
    assert result.ids.to_pylist() == prepared.splits["train"].ids.to_pylist()
    for i in range(60):
        assert result.tokens(i).dtype == np.int32
        assert len(result.tokens(i)) == len(result.targets(i)) == result.lengths[i]
        assert result.targets(i).sum() == result.target_counts[i]
        assert not result.targets(i)[0]
    assert result.report["tokens"] == result.lengths.sum()


def test_without_a_template_prompt_completion_and_end(gate: Gate) -> None:
    result = encoded(gate([{"prompt": question(i), "completion": " yes"} for i in range(40)], ALL_TRAIN), None)
    assert text_of(result, 0).endswith("? yes<|im_end|>")
    assert text_of(result, 0, targets=True) == " yes<|im_end|>"


@pytest.mark.parametrize("template", [CHATML, None])
def test_every_token_of_plain_text_is_a_target_but_the_first(gate: Gate, template: str | None) -> None:
    result = encoded(gate([{"text": question(i)} for i in range(40)], ALL_TRAIN), template)
    assert text_of(result, 0).endswith("?<|im_end|>")
    assert result.targets(0).tolist() == [False] + [True] * (len(result.targets(0)) - 1)
    assert result.target_counts[0] == result.lengths[0] - 1


def chat(*turns: tuple[str, str, float]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": text, "weight": weight} for role, text, weight in turns]}


@pytest.mark.parametrize("template", [CHATML, FORGETFUL])
@pytest.mark.parametrize(("weight", "learnt"), [(1, "first<|im_end|>\nsecond<|im_end|>\n"), (0, "second<|im_end|>\n")])
def test_earlier_turns_with_a_weight_are_targets(gate: Gate, weight: int, learnt: str, template: str) -> None:
    turns = (("user", "a", 1), ("assistant", "first", weight), ("user", "b", 1), ("assistant", "second", 1))
    result = encoded(gate([chat(*turns)], ALL_TRAIN), template)
    assert text_of(result, 0, targets=True) == learnt


def test_a_template_that_rewrites_earlier_turns(gate: Gate) -> None:
    turns = (("user", "a", 1), ("assistant", "<think>x</think>first", 1), ("user", "b", 1), ("assistant", "second", 1))
    result = encoded(gate([chat(*turns)], ALL_TRAIN), FORGETFUL)
    assert [text_of(result, i, targets=True) for i in range(2)] == [
        "<think>\nx\n</think>\n\nfirst<|im_end|>\n",
        "second<|im_end|>\n",
    ]
    assert "<think>" not in text_of(result, 1)
    assert [(example.reasoning, example.completion) for example in result.examples] == [("x", "first"), ("", "second")]
    assert result.ids[1].as_py() == gate([chat(*turns)], ALL_TRAIN).splits["train"].ids[0].as_py()
    assert len(set(result.ids.to_pylist())) == 2
    assert result.report["further_turns"] == 1


def test_a_template_whose_prompt_is_not_a_prefix_of_the_chat(gate: Gate) -> None:
    result = encoded(gate(pairs(40), ALL_TRAIN), UNLIKE)
    assert result.report["generation_prompt_differs"]
    assert text_of(result, 0, targets=True) in ("yes<|im_end|>", "no<|im_end|>")
    assert text_of(result, 0).endswith(f"<think></think>{text_of(result, 0, targets=True)}")  # as at inference


def test_a_template_that_refuses_a_chat_names_the_row(gate: Gate) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + str(CHATML)
    rows = [chat(("user", question(i), 1), ("assistant", "yes", 1)) for i in range(40)]
    rows[3] = chat(("system", "s", 1), ("user", "b", 1), ("assistant", "yes", 1))
    prepared = gate(rows, ALL_TRAIN)
    with pytest.raises(UserError, match="no system turn") as caught:
        encoded(prepared, strict)
    assert [(fault.code, fault.row) for fault in caught.value.faults] == [("template-error", 4)]
    result = encoded(prepared, strict, log=FaultLog({"template-error": "drop"}))
    assert len(result) == 39
    assert result.report["dropped"] == 1


def test_failures_in_the_cache_belong_to_rows_not_to_their_numbers(gate: Gate, tmp_path: Path) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + str(CHATML)
    rows = [chat(("user", question(i), 1), ("assistant", "yes", 1)) for i in range(40)]
    rows[3] = chat(("system", "s", 1), ("user", "b", 1), ("assistant", "yes", 1))
    for data, row in ((rows, 4), ([rows[0], rows[0], *rows], 6)):
        with pytest.raises(UserError) as caught:
            encoded(gate(data, ALL_TRAIN), strict, cache=tmp_path)
        assert [fault.row for fault in caught.value.faults] == [row]
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_the_order_of_rows_does_not_change_the_fingerprint(gate: Gate) -> None:
    assert encoded(gate(pairs(60), ALL_TRAIN)).fingerprint == encoded(gate(pairs(60)[::-1], ALL_TRAIN)).fingerprint


def long_rows() -> list[dict[str, str]]:
    return [*pairs(30), {"prompt": "long " * 100, "completion": "yes"}, {"prompt": "b", "completion": "c" * 400}]


def test_overlong_rows_are_one_fault_with_both_fixes(gate: Gate) -> None:
    prepared = gate(long_rows(), ALL_TRAIN, labels=None)
    with pytest.raises(UserError) as caught:
        encoded(prepared, max_length=200)
    (fault,) = caught.value.faults
    assert (fault.code, fault.row) == ("too-long", 31)
    longest = encoded(prepared, max_length=10_000).lengths
    assert f"2 of 32 rows have more tokens than data.max_length (200): the longest has {max(longest)}" in fault.message
    assert f"95 % have at most {int(np.ceil(np.quantile(longest, 0.95)))}" in fault.message
    ways = re.findall(r"data\.(\w+)=(\w+)", fault.fix)
    assert ways == [("overlong", "truncate"), ("overlong", "drop"), ("max_length", str(max(longest)))]
    for name, value in ways:
        limit: Any = {"max_length": int(value)} if name == "max_length" else {"max_length": 200, name: value}
        assert len(encoded(prepared, **limit)) == (30 if value == "drop" else 32)


def test_rows_beyond_the_models_positions_are_too_long_whatever_max_length_is(gate: Gate) -> None:
    prepared = gate(long_rows(), ALL_TRAIN, labels=None)
    with pytest.raises(UserError, match=r"2 of 32 rows have more tokens than the model's positions \(200\)") as caught:
        encoded(prepared, max_length=10_000, model=ModelLimits(positions=200))
    assert "data.max_length" not in caught.value.faults[0].fix
    cut = encoded(prepared, max_length=10_000, overlong="truncate", model=ModelLimits(positions=200))
    assert (len(cut), cut.lengths.max()) == (32, 200)
    assert len(encoded(prepared, max_length=10_000, overlong="drop", model=ModelLimits(positions=200))) == 30
    with pytest.raises(UserError, match=r"data.max_length=\d+"):
        encoded(prepared, max_length=200, model=ModelLimits(positions=10_000))


def test_a_token_without_an_embedding_is_one_fault(gate: Gate) -> None:
    longer = tokenizer()
    longer.add_tokens(["<tool>", "<pad>"])

    def fed(prepared: Prepared) -> Encoded:
        limit = ModelLimits(tokens=259)
        train = prepared.splits["train"]
        return encode(train, longer, max_length=999, overlong="error", cache=None, name="train", model=limit)

    prepared = gate([*pairs(30), {"prompt": "<tool> a", "completion": "b"}], ALL_TRAIN, labels=None)
    with pytest.raises(UserError) as caught:
        fed(prepared)
    (fault,) = caught.value.faults
    assert (fault.code, fault.row) == ("unknown-token", 31)
    assert "the tokenizer has 261 tokens and the model's embedding 259 rows" in fault.message
    assert "'<tool>' (259)" in fault.message
    unused = gate(pairs(30), ALL_TRAIN, labels=None)
    assert len(fed(unused)) == 30
    longer.pad_token = "<pad>"
    with pytest.raises(UserError, match="its pad token '<pad>' is 260"):
        fed(unused)


def test_overlong_rows_are_dropped_and_counted(gate: Gate) -> None:
    result = encoded(gate(long_rows(), ALL_TRAIN, labels=None), max_length=200, overlong="drop")
    assert len(result) == len(result.ids) == 30
    assert result.report["dropped"] == 2
    assert result.report["lost_target_percent"] > 0


def test_a_split_without_rows_is_removed(gate: Gate) -> None:
    with pytest.raises(UserError, match="no row of the train split"):
        encoded(gate(pairs(30), ALL_TRAIN), max_length=5, overlong="drop")


def test_truncation_keeps_the_completion(gate: Gate, tmp_path: Path) -> None:
    prepared = gate(long_rows(), ALL_TRAIN, labels=None)
    log = FaultLog(folder=tmp_path)
    whole, cut = encoded(prepared), encoded(prepared, max_length=200, overlong="truncate", log=log)
    assert cut.report["truncated"] == 2
    assert cut.lengths.max() == 200
    for i, example in enumerate(prepared.splits["train"]):
        if example.prompt.startswith("long"):  # type: ignore[union-attr]
            assert text_of(cut, i, targets=True) == text_of(whole, i, targets=True)
        if example.prompt == "b":
            lost = whole.target_counts[i] - cut.target_counts[i]
            assert cut.targets(i).sum() == cut.target_counts[i] > 190
            assert not cut.targets(i)[0]
    assert cut.report["lost_target_percent"] == pytest.approx(100 * lost / whole.target_counts.sum())
    assert [fault.code for fault in log.kept] == ["lost-targets", "too-long"]
    assert log.errors == 0
    assert log.kept[1].message.startswith("2 of 32 rows have more tokens than data.max_length (200): the longest has")
    assert log.kept[1].message.endswith("; they are cut to 200 tokens, the beginning of the prompt first")
    log.flush()
    cuts = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [(cut["action"], cut["codes"], cut["kept"]) for cut in cuts] == [("truncated", ["too-long"], 200)] * 2


def test_one_cache_serves_all_splits_limits_and_folds(gate: Gate, tmp_path: Path, monkeypatch: Any) -> None:
    first = gate(pairs(100))
    for name, examples in first.splits.items():
        encode(examples, tokenizer(), max_length=99, overlong="error", cache=tmp_path, name=name)
    monkeypatch.setattr("kamerton.data.encode.token_cache._write", None)
    other = gate(pairs(100), SplitOptions(folds=3, fold=1))
    views = {
        n: encode(e, tokenizer(), max_length=98, overlong="drop", cache=tmp_path, name=n)
        for n, e in other.splits.items()
    }
    assert len(list((tmp_path / "tokens").iterdir())) == 1
    for name, view in views.items():
        assert text_of(view, 3).count(view.examples[3].prompt) == 1, name  # type: ignore[arg-type]


def test_nothing_stale_is_taken_from_the_cache(gate: Gate, tmp_path: Path) -> None:
    def fingerprint(
        rows: list[dict[str, Any]], template: str = str(CHATML), max_length: int = 99, vocabulary: str = ""
    ) -> str:
        model = tokenizer(template)
        if vocabulary:
            model.add_tokens([vocabulary])
        split = gate(rows, ALL_TRAIN).splits["train"]
        result = encode(split, model, max_length=max_length, overlong="error", cache=tmp_path, name="train")
        assert model.decode(result.tokens(0)) == model.apply_chat_template(
            [{"role": t.role, "content": t.content} for t in split[0].messages], tokenize=False
        )
        return result.fingerprint

    prints = [
        fingerprint(pairs(50)),
        fingerprint(pairs(51)),
        fingerprint(pairs(50), SYSTEM, 120),
        fingerprint(pairs(50), max_length=98),
        fingerprint(pairs(50), vocabulary="amber"),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(pairs(50)) == prints[0]


def test_a_template_with_the_time_is_not_cached() -> None:
    model = tokenizer("{{ strftime_now('%H:%M:%S.%f') }}" + str(CHATML))
    assert StretchTokenizer(model).fingerprint != StretchTokenizer(model).fingerprint
    assert StretchTokenizer(tokenizer()).fingerprint == StretchTokenizer(tokenizer()).fingerprint


@pytest.mark.parametrize("name", [*TEMPLATES, None])
def test_render_agrees_with_encode(gate: Gate, name: str | None) -> None:
    template = TEMPLATES[name] if name else None
    prepared = gate(pairs(40), ALL_TRAIN)
    result = encoded(prepared, template)
    split = renderer(tokenizer(template))
    for i in range(0, 40, 7):
        example = prepared.splits["train"][i]
        prompt, completion = split(example.prompt, example.completion)
        assert prompt + completion == result.tokens(i).tolist()
        assert len(completion) == result.target_counts[i]
        other, _ = split(example.prompt, "something else entirely")
        assert other == prompt


def test_render_reports_template_errors() -> None:
    with pytest.raises(RenderError, match="no chat template"):
        render(tokenizer(None), (Message("user", "a"),), "b")


contents = st.text(max_size=30) | st.sampled_from(["<|im_end|>", "a<|im_start|>b", "{{ 1 }}", "\\n", " ", "{% if %}"])
roles = st.sampled_from(["user", "assistant", "system", "tool"])
prompts = contents | st.lists(
    st.builds(Message, roles, contents, st.sampled_from([0.0, 1.0])), min_size=1, max_size=4
).map(tuple)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(prompts, contents), min_size=1, max_size=4))
def test_any_chat_is_encoded_as_the_template_renders_it(name: str, rows: list[Any]) -> None:
    model = tokenizer(TEMPLATES[name])
    examples = [DataExample(prompt, completion) for prompt, completion in rows]
    chunk = StretchTokenizer(model).encode(examples)
    ends = np.cumsum(chunk.lengths)
    for example, end, length in zip(examples, ends, chunk.lengths, strict=True):
        turns = [{"role": turn.role, "content": turn.content} for turn in example.messages]
        text = model.apply_chat_template(turns, tokenize=False)
        assert model.decode(chunk.tokens[end - length : end]) == text
        if not length or isinstance(example.prompt, tuple):
            continue
        prompt = model.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        if text.startswith(prompt):
            targets = chunk.tokens[end - length : end][chunk.targets[end - length : end]]
            assert model.decode(targets) == text[len(prompt) :]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, True),
        (SYSTEM, True),
        (BARE, True),
        (TRIMMED, False),
        (FORGETFUL, False),
        ("{% for m in messages %}{% if m.content == 'x' %}y{% endif %}{% endfor %}", False),
        ("{% for m in messages %}{{ m }}{% endfor %}", False),
        ("{{ messages | tojson }}", False),
        ("{% for m in messages %}{% if m == messages[0] %}y{% endif %}{% endfor %}", False),
        ("{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}", False),
        ("{% set m = messages[0] %}{{ m.content }}", False),
        ("{% for m in messages %}{{ m.content[0] }}{% endfor %}", False),
        ("{% for m in messages %}{{ m[key] == 'x' }}{% endfor %}", False),
        ("{% broken", False),
    ],
)
def test_only_templates_that_just_write_contents_are_opaque(template: str, expected: bool) -> None:
    assert is_opaque(template) is expected


def sentencepiece_like() -> Any:
    """Words with a leading `▁`, as in Llama 2: a space is put before every text."""
    words = ["<s>", "</s>", "▁", "▁a", "▁b", "a", "b", ":", "▁yes", "yes"]
    backend = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [("▁", "a"), ("▁", "b")], fuse_unk=False))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Replace("▁", " ")
    backend.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def test_a_continuation_gets_no_space_of_its_own() -> None:
    prompt, completion = render(sentencepiece_like(), "a b", "b")
    assert sentencepiece_like().convert_ids_to_tokens(prompt) == ["<s>", "▁a", "▁b"]
    assert sentencepiece_like().convert_ids_to_tokens(completion) == ["b", "</s>"]


def test_padding_and_truncation_set_on_the_tokenizer_change_nothing() -> None:
    plain = tiny_tokenizer()
    changed = tiny_tokenizer()
    changed.backend_tokenizer.enable_truncation(4)
    changed.backend_tokenizer.enable_padding(length=64)
    assert render(changed, "a question", "an answer") == render(plain, "a question", "an answer")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["<|im_start|>", "<|im_end|>", " ", "x", "\n", "é", "<", "|>"]), max_size=12).map("".join)
)
def test_cutting_at_special_tokens_changes_no_token(text: str) -> None:
    bytes_ = tiny_tokenizer()
    chunk = StretchTokenizer(bytes_, "parse").encode([DataExample(text + "x", "y")])
    turns = [{"role": "user", "content": text + "x"}, {"role": "assistant", "content": "y"}]
    assert chunk.tokens.tolist() == bytes_.encode(
        bytes_.apply_chat_template(turns, tokenize=False), add_special_tokens=False
    )


def test_pre_tokenizers_are_unchanged_by_a_copy() -> None:
    model = tiny_tokenizer()
    model.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    prompt, completion = render(model, "a", "b")
    assert model.decode(prompt).endswith("assistant\n")
    assert model.decode(completion) == "b<|im_end|>\n"  # no space before the continuation
    assert json.loads(model.backend_tokenizer.to_str())["pre_tokenizer"]["add_prefix_space"] is True
