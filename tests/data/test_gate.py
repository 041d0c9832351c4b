"""The whole gate: inputs, results and reported faults."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.example import DataExample, Message
from kamerton.data.gate import DataError, Prepared, prepare
from kamerton.data.options import Columns, DataOptions, Source, SplitOptions
from kamerton.data.validation import validate
from kamerton.errors import Fault, UserError
from support.rows import pairs, question, write_jsonl

Gate = Callable[..., Prepared]
Codes = Callable[..., set[str]]
ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])
THIRDS = SplitOptions(ratios=[0.4, 0.3, 0.3])


def ids(prepared: Prepared, name: str = "train") -> list[str]:
    return list(prepared.splits[name].ids.to_pylist())


def errors(options: DataOptions) -> list[Fault]:
    return validate(options).errors


def rejects(prepared: Prepared) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (prepared.folder / "rejects.jsonl").read_text().splitlines()]


def test_examples_come_out_as_they_went_in(gate: Gate) -> None:
    rows = [row | {"level": i} for i, row in enumerate(pairs(200))]
    prepared = gate(rows)
    result = {(e.prompt, e.completion, e.metadata["level"]) for split in prepared.splits.values() for e in split}
    assert result == {(row["prompt"], row["completion"], row["level"]) for row in rows}
    for examples in prepared.splits.values():
        assert [example.id for example in examples] == examples.ids.to_pylist()
        assert [example.completion for example in examples] == examples.completions.to_pylist()


def test_chats_come_out_with_their_turns_and_ids(gate: Gate) -> None:
    turns = [("user", "a", 1), ("assistant", "b", 0), ("user", "é", 1), ("assistant", "c", 1)]
    (example,) = gate(
        [{"messages": [dict(zip(("role", "content", "weight"), turn, strict=True)) for turn in turns]}], ALL_TRAIN
    ).splits["train"]
    assert example == DataExample(tuple(Message(*turn) for turn in turns[:-1]), "c")
    assert (
        gate([{"prompt": "p", "completion": "c"}], ALL_TRAIN).splits["train"].ids[0].as_py() == DataExample("p", "c").id
    )


def test_the_order_of_the_file_changes_nothing(gate: Gate) -> None:
    rows = pairs(300)
    first = gate(rows)
    random.Random(0).shuffle(rows)
    second = gate(rows)
    assert first.fingerprint == second.fingerprint
    assert ids(first) == ids(second)


def test_rows_keep_their_split_when_rows_are_added(gate: Gate) -> None:
    before = {id_: name for name in ("train", "validation", "test") for id_ in ids(gate(pairs(300)), name)}
    more = gate(pairs(400))
    assert all(id_ in ids(more, name) for id_, name in before.items())


def test_anything_that_shapes_the_examples_changes_the_fingerprint(gate: Gate) -> None:
    prints = [gate(pairs(100)).fingerprint, gate(pairs(101)).fingerprint]
    prints += [gate(pairs(100), SplitOptions(seed=1)).fingerprint, gate(pairs(100), labels=None).fingerprint]
    assert len(set(prints)) == 4


def test_exact_duplicates_are_removed_and_counted(gate: Gate) -> None:
    prepared = gate([*pairs(100), *pairs(30)])
    assert prepared.report["counts"]["rows read"] == 130
    assert prepared.report["counts"]["exact duplicates removed"] == 30
    assert sum(len(examples) for examples in prepared.splits.values()) == 100
    assert Counter(reject["codes"][0] for reject in rejects(prepared)) == {"exact-duplicate": 30}
    assert rejects(prepared)[0]["other"].endswith("rows.jsonl:1")


def test_labels_are_found_given_or_denied(gate: Gate) -> None:
    assert gate(pairs(100)).labels == ["no", "yes"]
    assert gate(pairs(100), labels=None).labels is None
    assert gate(pairs(100), labels=["yes", "no", "maybe"]).labels == ["maybe", "no", "yes"]
    assert gate([{"prompt": question(i), "completion": question(i + 500)} for i in range(100)]).labels is None
    assert gate([{"text": question(i)} for i in range(100)]).labels is None


def test_every_fault_of_every_row_at_once(tmp_path: Path) -> None:
    lines = [
        '{"prompt": 1, "completion": ""}',
        "{",
        "[]",
        '{"prompt": "a"}',
        '{"messages": 3}',
        '{"prompt": "a", "completion": "b"}',
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        prepare(DataOptions(path=str(path)), SplitOptions(), cache=None)
    places = {(fault.row, fault.code) for fault in caught.value.faults}
    assert places == {
        (1, "not-a-string"),
        (1, "empty-field"),
        (2, "bad-json"),
        (3, "not-an-object"),
        (4, "missing-field"),
        (5, "bad-messages"),
    }
    assert {fault.file for fault in caught.value.faults} == {str(path)}


def test_thousands_of_faults_are_grouped_and_all_of_them_written(tmp_path: Path) -> None:
    lacking = [{"prompt": "a", f"other{i}": "b"} for i in range(3000)]
    path = write_jsonl(tmp_path / "rows.jsonl", [*pairs(10), *lacking])
    with pytest.raises(UserError) as caught:
        prepare(DataOptions(path=str(path)), SplitOptions(), cache=tmp_path / "cache")
    faults = caught.value.faults
    assert len(faults) == 21
    assert "2,980 more" in faults[-1].message
    assert "pair (prompt, completion)" in faults[0].message
    (log,) = (tmp_path / "cache").glob("prepared/*/faults.jsonl")
    assert len(log.read_text().splitlines()) == 3000
    assert str(log) in faults[-1].fix


def test_faults_that_differ_in_their_rows_alone_are_one_line(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]
    chats = [{"conversations": [*turns[:2] * (1 + i % 2), turns[2]]} for i in range(1200)]
    path = write_jsonl(tmp_path / "rows.jsonl", chats)
    with pytest.raises(UserError) as caught:
        prepare(DataOptions(path=str(path)), SplitOptions(), cache=None)
    (fault,) = caught.value.faults
    assert (fault.code, fault.row) == ("trailing-turns", 1)
    assert "(1,200 times; the first in the rows 1, 2, 3, 4, 5)" in fault.message
    assert "data.policy.trailing-turns=fix" in fault.fix


def test_dropped_rows_are_counted(gate: Gate) -> None:
    rows = [*pairs(60), {"prompt": 5, "completion": "yes"}, {"prompt": "", "completion": "no"}, 7]
    policy = {"not-a-string": "fix", "empty-field": "drop", "not-an-object": "drop"}
    prepared = gate(rows, policy=policy)
    report = prepared.report
    assert report["rejected"] == {"empty-field": 1, "not-an-object": 1}
    assert report["fixed"] == {"not-a-string": 1}
    assert report["counts"]["distinct"] == 61
    assert [(reject["row"], reject["action"]) for reject in rejects(prepared)] == [
        (61, "fixed"),
        (62, "dropped"),
        (63, "dropped"),
    ]
    assert rejects(prepared)[1]["record"] == rows[61]


def test_an_unknown_column_lists_the_columns(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", pairs(30))
    (fault,) = errors(DataOptions(path=str(path), columns=Columns(prompt="promt")))
    assert (fault.code, fault.column) == ("unknown-column", "promt")
    assert "prompt, completion" in fault.message
    (fault,) = errors(DataOptions(path=str(path), columns=Columns(metadata=["levl"])))
    assert fault.code == "unknown-column"


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", pairs(30))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert [fault.code for fault in errors(DataOptions(path=str(path)))] == ["no-permission"]


def test_mixed_schemas_are_judged_by_the_whole_file(gate: Gate, codes: Codes) -> None:
    odd = [{"question": question(900), "answer": "yes"}]
    assert codes([*odd, *pairs(50)]) == {"mixed-schemas"}
    prepared = gate([*odd, *pairs(50)], policy={"mixed-schemas": "drop"})
    assert prepared.report["counts"]["usable"] == 50
    assert rejects(prepared)[0]["row"] == 1
    assert prepared.report["schemas"]["data"] == {"pair (question, answer)": 1, "pair (prompt, completion)": 50}
    assert gate([*odd, *pairs(50)], policy={"mixed-schemas": "warn"}).report["counts"]["usable"] == 51


def test_prompts_in_two_given_files_leave_the_training_split(tmp_path: Path) -> None:
    rows = pairs(80)
    train = write_jsonl(tmp_path / "train.jsonl", rows[:60])
    shouted = [row | {"prompt": "  " + row["prompt"].upper()} for row in rows[:3]]
    test = write_jsonl(tmp_path / "test.jsonl", [*rows[60:], *shouted])
    options = DataOptions(train=str(train), test=str(test), near_duplicates=None)
    prepared = prepare(options, SplitOptions(), cache=None)
    assert prepared.report["leakage"]["exact"] == {"train and test": 3}
    assert (len(prepared.splits["train"]), len(prepared.splits["test"])) == (57, 23)
    options.policy = {"leakage": "warn"}
    assert len(prepare(options, SplitOptions(), cache=None).splits["train"]) == 60
    options.policy = {"leakage": "error"}
    with pytest.raises(UserError, match=r"test.jsonl:2\d"):
        prepare(options, SplitOptions(), cache=None)


def near_pairs(count: int) -> list[dict[str, str]]:
    """Pairs of rows that differ in one word of many."""
    texts = [" ".join(question(i * 9 + k)[:-1] for k in range(6)) for i in range(count)]
    return [
        {"prompt": text + end, "completion": question(i)} for i, text in enumerate(texts) for end in ("", " please")
    ]


def test_near_duplicates_never_straddle_splits(gate: Gate) -> None:
    prepared = gate(near_pairs(60), THIRDS)
    assert prepared.report["near_duplicates"]["clusters"] == 60
    assert sum(prepared.report["leakage"]["near"].values()) > 0
    starts = {name: {e.prompt.removesuffix(" please") for e in examples} for name, examples in prepared.splits.items()}
    assert not starts["train"] & starts["test"]
    assert not starts["train"] & starts["validation"]
    assert not starts["validation"] & starts["test"]
    apart = gate(near_pairs(60), THIRDS, near_duplicates=None)
    kept = {name: set(ids(apart, name)) for name in apart.splits}
    assert all(set(ids(prepared, name)) <= kept[name] for name in kept)  # nothing has changed its split


def test_a_random_split_leaks_where_prompts_repeat_and_a_grouped_one_does_not(gate: Gate) -> None:
    rows = [{"prompt": question(i % 40), "completion": question(i), "scene": i % 40} for i in range(320)]
    loose = SplitOptions(group=None)
    assert gate(rows, loose, labels=None).report["leakage"]["exact"]["train and test"] > 0
    for group in ("prompt", "scene"):
        assert gate(rows, SplitOptions(group=group), labels=None).report["leakage"]["exact"] == {}


def test_contradictions_between_labels(gate: Gate, codes: Codes) -> None:
    rows = [*pairs(60), {"prompt": question(0), "completion": "no"}]
    assert "contradiction" in codes(rows, ALL_TRAIN)
    assert "contradiction" in codes(rows, ALL_TRAIN, policy={"contradiction": "error"})
    kept = gate(rows, ALL_TRAIN, policy={"contradiction": "drop"}).splits["train"]
    assert question(0) not in {example.prompt for example in kept}
    assert len(kept) == 59
    assert "contradiction" not in codes(rows, ALL_TRAIN, labels=None)


def test_a_label_spelt_two_ways(gate: Gate, codes: Codes) -> None:
    rows = [*pairs(100), {"prompt": question(777), "completion": "Yes "}]
    assert codes(rows) == {"label-spelling"}
    prepared = gate(rows, ALL_TRAIN, policy={"label-spelling": "fix"})
    assert prepared.labels == ["no", "yes"]
    assert prepared.report["label_distribution"]["train"] == {"no": 50, "yes": 51}
    assert prepared.report["fixed"] == {"label-spelling": 1}


def test_labels_that_were_not_named(gate: Gate, codes: Codes) -> None:
    rows = [*pairs(60), {"prompt": question(900), "completion": "perhaps"}]
    assert codes(rows, labels=["yes", "no"]) == {"unknown-label"}
    with pytest.raises(UserError) as refused:
        gate(rows, labels=["yes", "no"])
    for way in ("data.policy.unknown-label=drop", "data.labels=null"):  # to evaluate a run on it, its labels stay
        assert way in refused.value.faults[0].fix
    prepared = gate(rows, labels=["yes", "no"], policy={"unknown-label": "drop"})
    assert prepared.report["rejected"] == {"unknown-label": 1}


def test_rare_missing_and_frequent_labels_cause_warnings(codes: Codes) -> None:
    rows = [*pairs(400), *[{"prompt": question(1000 + i), "completion": "rare"} for i in range(2)]]
    assert {"rare-label", "label-missing", "label-imbalance"} <= codes(rows)


def test_unusual_rows_cause_warnings(codes: Codes) -> None:
    rows = [{"prompt": question(i), "completion": question(i + 700)} for i in range(300)]
    rows[5]["prompt"] = "word " * 20_000
    rows[6]["completion"] = "совсем другой язык и другие буквы" * 5
    rows[7]["completion"] = '{"a": 1}'
    assert {"outlying-length", "outlying-language", "outlying-format"} <= codes(rows)
    assert codes([{"prompt": question(i), "completion": question(i + 700)} for i in range(300)]) == set()


def test_too_few_rows(codes: Codes) -> None:
    assert codes(pairs(2)) == {"too-few-rows"}
    assert "few-rows" in codes(pairs(40))


def test_all_small_splits_are_one_warning_with_a_fix_that_fits(gate: Gate) -> None:
    labels, texts = pairs(60), [{"prompt": question(i), "completion": question(i + 700)} for i in range(60)]
    for rows, split, advises in (
        (labels, SplitOptions(), True),
        (labels, SplitOptions(stratify="label"), False),
        (texts, SplitOptions(), False),
    ):
        (fault,) = [fault for fault in gate(rows, split).facts.warnings if fault["code"] == "few-rows"]
        assert " in the validation split, " in fault["message"]
        assert " in the test split; " in fault["message"]
        assert ("split.stratify=label" in fault["fix"]) == advises


def test_stratified_by_label_and_by_field(gate: Gate) -> None:
    rows = [row | {"kind": i % 5} for i, row in enumerate(pairs(400, ("a", "b", "b", "b")))]
    prepared = gate(rows, SplitOptions(stratify="label"))
    for name, ratio in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
        counts = prepared.report["label_distribution"][name]
        assert abs(counts["a"] - 100 * ratio) <= 1
        assert abs(counts["b"] - 300 * ratio) <= 1
    test = gate(rows, SplitOptions(stratify="kind")).splits["test"]
    assert set(Counter(example.metadata["kind"] for example in test).values()) == {12}


def test_split_by_time(gate: Gate, codes: Codes) -> None:
    rows = [row | {"day": f"2026-{1 + i % 12:02}-{1 + i % 28:02}"} for i, row in enumerate(pairs(240))]
    splits = gate(rows, SplitOptions(time="day")).splits
    days = {name: [example.metadata["day"] for example in examples] for name, examples in splits.items()}
    assert max(days["train"]) <= min(days["validation"])
    assert max(days["validation"]) <= min(days["test"])
    assert codes([row | {"day": "soon"} for row in rows], SplitOptions(time="day")) == {"bad-time"}
    assert codes(rows, SplitOptions(time="dya")) == {"missing-metadata"}


def test_folds_share_the_test_split_and_cover_the_rest(gate: Gate) -> None:
    folds = [gate(pairs(200), SplitOptions(folds=4, fold=fold)) for fold in range(4)]
    assert len({tuple(ids(fold, "test")) for fold in folds}) == 1
    validation = [id_ for fold in folds for id_ in ids(fold, "validation")]
    assert len(validation) == len(set(validation)) == 200 - len(ids(folds[0], "test"))
    for fold in folds:
        assert not set(ids(fold)) & set(ids(fold, "validation"))


def test_balance_changes_only_the_training_split(gate: Gate) -> None:
    rows = pairs(300, ("a", "b", "b", "b"))
    plain = gate(rows)
    over = gate(rows, balance="over")
    counts = Counter(over.splits["train"].completions.to_pylist())
    assert counts["a"] == counts["b"] == plain.report["label_distribution"]["train"]["b"]
    assert ids(over, "test") == ids(plain, "test")
    assert set(ids(over)) == set(ids(plain))
    weights = gate(rows, balance="weights").label_weights
    assert weights is not None
    assert weights["a"] > weights["b"]
    with pytest.raises(UserError, match=r"data\.balance"):
        gate(rows, balance="over", labels=None)


def test_rows_sampled_out_or_repeated_are_counted(gate: Gate) -> None:
    rows = [{"prompt": question(i), "completion": "a" if i % 4 else "b"} for i in range(200)]
    for how in ("over", "under"):
        prepared = gate(rows, balance=how)
        counts, before = prepared.report["counts"], sum(prepared.report["label_distribution"]["train"].values())
        repeated, out = counts.get("train rows repeated", 0), counts.get("train rows sampled out", 0)
        assert counts["train"] == before + repeated - out
        assert (repeated > 0, out > 0) == (how == "over", how == "under")


def test_labels_respelt_are_written_down_and_what_becomes_equal_is_a_duplicate(gate: Gate) -> None:
    rows = [*pairs(60), {"prompt": question(0), "completion": "YES"}, {"prompt": question(900), "completion": "Yes"}]
    prepared = gate(rows, policy={"label-spelling": "fix"})
    kept = sum(len(examples) for examples in prepared.splits.values())
    assert prepared.report["counts"]["rows read"] == 62 == kept + sum(prepared.report["rejected"].values())
    assert prepared.report["counts"]["exact duplicates removed"] == 1 == prepared.report["rejected"]["exact-duplicate"]
    mended = [(line["row"], line["label"], line["now"]) for line in rejects(prepared) if line["action"] == "fixed"]
    assert mended == [(61, "YES", "yes"), (62, "Yes", "yes")]
    assert prepared.report["fixed"] == {"label-spelling": 2}


def test_faults_within_and_between_rows_are_reported_together(gate: Gate) -> None:
    rows = [*pairs(60), pairs(1)[0], {"prompt": 1, "completion": "no"}, {"prompt": question(900), "completion": "Yes"}]
    with pytest.raises(DataError) as caught:
        gate(rows)
    assert {(fault.severity, fault.code) for fault in caught.value.faults} >= {
        ("error", "not-a-string"),
        ("error", "label-spelling"),
        ("warning", "exact-duplicate"),
    }
    assert caught.value.report["counts"]["rows read"] == 63
    assert caught.value.report["rejected"] == {"not-a-string": 1, "exact-duplicate": 1}


def test_a_split_field_that_no_row_has_is_one_fault_with_the_nearest_name(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [row | {"book": i} for i, row in enumerate(pairs(90))])
    (fault,) = validate(DataOptions(path=str(path)), SplitOptions(group="boook")).errors
    assert (fault.code, fault.row, fault.column) == ("missing-metadata", None, "boook")
    assert "book" in fault.fix


def test_a_label_with_two_spellings_is_reported_with_its_first_row(tmp_path: Path) -> None:
    result = [*pairs(60), {"prompt": question(900), "completion": "Yes"}]
    (fault,) = errors(DataOptions(path=str(write_jsonl(tmp_path / "rows.jsonl", result))))
    assert (fault.code, fault.row) == ("label-spelling", 61)


def test_weights_of_sources_that_leave_no_training_row_are_refused(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", pairs(30)))
    with pytest.raises(UserError, match="the weights of the sources leave no training row"):
        prepare(DataOptions(sources={"a": Source(path=path, weight=0)}))


def test_sources_are_mixed_by_weight_each_with_its_schema(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"q": question(i), "a": question(i + 99)} for i in range(100)])
    write_jsonl(tmp_path / "b.jsonl", [{"instruction": question(i + 500), "output": question(i)} for i in range(100)])
    sources = {
        "small": Source(path=str(tmp_path / "a.jsonl"), columns=Columns(prompt="q", completion="a"), weight=3.0),
        "large": Source(path=str(tmp_path / "b.jsonl")),
    }
    prepared = prepare(DataOptions(sources=sources), SplitOptions(), cache=None)
    counts = Counter(
        int(number) for number in prepared.splits["train"].store.column("file")[prepared.splits["train"].rows]
    )
    assert counts[0] > 2 * counts[1]
    assert set(Counter(ids(prepared)).values()) == {1, 3}
    assert set(Counter(ids(prepared, "test")).values()) == {1}
    assert set(prepared.report["schemas"]) == {"small", "large"}


def test_the_cache_is_used_and_never_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*pairs(100), {"prompt": " spaced ", "completion": "yes"}])
    options = DataOptions(path=str(path))
    first = prepare(options, SplitOptions(), cache=tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr("kamerton.data.read.rows.ingest", None)
        again = prepare(options, SplitOptions(), cache=tmp_path / "cache")
        prepare(options, SplitOptions(seed=5), cache=tmp_path / "cache")
    assert again.fingerprint == first.fingerprint
    assert again.report == first.report
    assert (again.folder / "faults.jsonl").read_text() == (first.folder / "faults.jsonl").read_text()
    changed = path.read_text().replace(question(0), question(0).replace("?", "!"))
    path.write_text(changed)
    assert prepare(options, SplitOptions(), cache=tmp_path / "cache").fingerprint != first.fingerprint
    options.policy = {"outer-whitespace": "fix"}
    assert prepare(options, SplitOptions(), cache=tmp_path / "cache").fingerprint != first.fingerprint


def test_runs_that_start_together_share_one_cache(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", pairs(200))
    faulty = write_jsonl(tmp_path / "faulty.jsonl", [*pairs(20), 1])

    def run(number: int) -> str:
        options = DataOptions(path=str(path if number % 2 else faulty))
        try:
            return prepare(options, SplitOptions(), cache=tmp_path / "cache").fingerprint
        except UserError as error:
            return error.faults[0].code

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(16)))
    assert results[::2] == ["not-an-object"] * 8
    assert len(set(results[1::2])) == 1
    assert not list((tmp_path / "cache").glob("*/part-*"))


def test_rows_live_as_long_as_the_result(gate: Gate) -> None:
    prepared = gate(pairs(60))
    folder = prepared.splits["train"].store.path
    examples = prepared.splits["train"]
    del prepared
    assert examples[0].prompt
    assert folder.exists()
    del examples
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "content", "fix"),
    [
        ("e2e.csv", "mr,ref\n", "'data.columns={prompt:mr,completion:ref}' "),
        ("half.csv", "prompt,ref\n", "data.columns.completion=ref"),
        ("headerless.csv", "what is it?,a thing\n", "data.header=[text,label]"),
        ("e2e.jsonl", "", "'data.columns={prompt:mr,completion:ref}'"),
    ],
)
def test_a_field_that_no_row_has_is_reported_once(tmp_path: Path, name: str, content: str, fix: str) -> None:
    path = tmp_path / name
    line = '{"mr": "a", "ref": "b"}\n' if name.endswith("jsonl") else "one,two\n"
    path.write_text(content + line * 30)
    options = DataOptions(path=str(path), format=path.suffix[1:])
    (fault,) = errors(options)
    assert (fault.code, fault.row) == ("missing-field", None)
    assert fix in fault.fix
