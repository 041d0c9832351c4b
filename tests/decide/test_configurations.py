"""Find score tables, and group and name them as configurations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kamerton.config.schema import PathOptions
from kamerton.decide.compare.baseline import choose_baseline
from kamerton.decide.compare.configurations import Group, ScoredRun, find_scores, group_runs, with_distinct_names
from kamerton.decide.compare.options import CompareOptions
from kamerton.decide.compose import compare, same_examples
from kamerton.errors import UserError
from support import synthetic

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a run directory; without a `table` it has no scores."""

    def run(name: str, table: pa.Table | None = None, base: pa.Table | None = None, **config: Any) -> Path:
        path = tmp_path / "trec" / name
        path.mkdir(parents=True)
        (path / "run.json").write_text(json.dumps({"state": "succeeded" if table else "failed"}))
        synthetic.write_config(path, {"run_id": name, "model": {"name": "tiny"}, **config}, [])
        for split, scores in (("test", table), ("base", base)):
            if scores is not None:
                synthetic.write_scores(path, split, scores)
        return path

    return run


def faults(work: Callable[[], object]) -> list[str]:
    with pytest.raises(UserError) as raised:
        work()
    return [str(fault) for fault in raised.value.faults]


def test_runs_that_differ_only_in_the_seed_are_one_configuration(write: Write, tmp_path: Path) -> None:
    table = synthetic.scores(0.9, rows=20)
    for name, seed, kind in (("a", 2, "lora"), ("b", 1, "lora"), ("c", 1, "full")):
        write(name, table, seed=seed, adapter={"kind": kind}, batch={"size": 8, "max_tokens": seed})
    runs, _ = find_scores([str(write("d", table, seed=1, adapter={"kind": "lora"}, batch={"size": 8}).parent)], "test")
    groups, notices = group_runs(runs)
    result = {group.name: [run.seed for run in group.runs] for group in groups}
    assert result == {"adapter.kind=lora": [1, 2], "adapter.kind=full": [1]}
    (notice,) = notices  # b and d are the same run
    folder = tmp_path / "trec"
    assert notice.message == f"{folder / 'd'} is left out: {folder / 'b'} has this configuration and seed already"


def test_seeds_of_one_configuration_alone_are_named_by_their_folder(write: Write, tmp_path: Path) -> None:
    for seed in (1, 2):
        write(f"seed{seed}", synthetic.scores(0.9, rows=20), seed=seed)
    assert [group.name for group in group_runs(find_scores([f"{tmp_path}/trec/*"], "test")[0])[0]] == ["trec"]


def test_globs_folders_files_and_directories_are_all_understood(write: Write, tmp_path: Path) -> None:
    table = synthetic.scores(0.9, rows=20)
    first, second = write("one", table, seed=1), write("two", table, seed=2)
    (tmp_path / "trec" / "data-12345678").mkdir()  # what `kamerton prepare` leaves there
    for entries in (
        [str(first), str(second)],
        [f"{tmp_path}/trec/*"],
        [str(tmp_path / "trec")],
        [f"{first}/scores/test.parquet", f"{tmp_path}/*/two"],
        [str(first), str(first), f"{tmp_path}/trec/t*"],
    ):
        runs, notices = find_scores(entries, "test")
        assert len(runs) == 2
        assert notices == []


def test_an_unfinished_run_is_left_out_of_a_glob_and_refused_by_name(write: Write, tmp_path: Path) -> None:
    write("done", synthetic.scores(0.9, rows=20))
    failed = write("failed")
    runs, (notice,) = find_scores([f"{tmp_path}/trec/*"], "test")
    assert [run.path.name for run in runs] == ["done"]
    assert "failed is left out: no scores of the test split (state: failed)" in notice.message
    (reported,) = faults(lambda: find_scores([str(failed)], "test"))
    assert "no scores of the test split" in reported


def test_all_entries_without_scores_are_reported(write: Write, tmp_path: Path) -> None:
    run = write("done", synthetic.scores(0.9, rows=20))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    reported = faults(
        lambda: find_scores([f"{tmp_path}/nowhere", f"{tmp_path}/x*", f"{tmp_path}/torn.parquet"], "test")
    )
    assert len(reported) == 3
    assert ["matches no run" in item for item in reported].count(True) == 2
    assert "runs is empty" in faults(lambda: find_scores([], "test"))[0]
    (said_split,) = faults(lambda: find_scores([str(run)], "validation"))
    assert "it has test" in said_split


def test_scores_of_the_base_model_alone_are_no_advice_for_an_unfinished_run(write: Write) -> None:
    run = write("stopped", base=synthetic.scores(0.1, rows=20))
    with pytest.raises(UserError) as caught:
        find_scores([str(run)], "test")
    (fault,) = caught.value.faults
    assert "it has base (state: " in fault.message
    assert fault.fix == "let the run finish, or evaluate it"


def test_the_baseline_is_the_base_model_a_run_or_a_file(write: Write, tmp_path: Path) -> None:
    table, base = synthetic.scores(0.9, rows=20), synthetic.scores(0.1, rows=20)
    for name, kind in (("one", "lora"), ("two", "full")):
        write(name, table, base, seed=1, adapter={"kind": kind})
    groups, _ = group_runs(find_scores([f"{tmp_path}/trec/*"], "test")[0])

    def chosen(baseline: str) -> tuple[str, list[str]]:
        side, candidates, _ = choose_baseline(baseline, groups, "test")
        return side.name, [group.name for group in candidates]

    both = ["adapter.kind=lora", "adapter.kind=full"]
    assert chosen("base") == ("base", both)
    assert chosen("two") == ("adapter.kind=full", both[:1])
    assert chosen(f"{tmp_path}/trec/two") == ("adapter.kind=full", both[:1])
    assert chosen("adapter.kind=lora") == ("adapter.kind=lora", both[1:])
    assert chosen(f"{tmp_path}/trec/two/scores/base.parquet") == ("two/base", both)
    write("three", table, seed=2, adapter={"kind": "full"})
    seeds, _, _ = choose_baseline(f"{tmp_path}/trec/t*", groups[:1], "test")
    assert [run.seed for run in seeds.runs] == [1, 2]
    (reported,) = faults(lambda: chosen(f"{tmp_path}/trec/*"))
    assert "contains several models" in reported
    (reported,) = faults(lambda: chosen("four"))
    assert "give a path, or one of: base, majority, tfidf, previous, adapter.kind=lora, adapter.kind=full" in reported


def test_runs_below_the_outputs_folder_are_found_by_id(write: Write, tmp_path: Path) -> None:
    for name, kind in (("one", "lora"), ("two", "full")):
        write(name, synthetic.scores(0.9, rows=20), seed=1, adapter={"kind": kind})
    options = CompareOptions(["trec/one"], "two", paths=PathOptions(str(tmp_path)))
    compared = compare(options)
    assert [Path(run).name for side in compared.sides for run in side.runs] == ["two", "one"]
    shutil.copytree(tmp_path / "trec" / "two", tmp_path / "other" / "two")
    (reported,) = faults(lambda: compare(options))
    assert "several runs are called 'two'" in reported


def test_the_seeds_that_are_the_baseline_are_no_candidates(write: Write, tmp_path: Path) -> None:
    for seed in (1, 2):
        write(f"lora{seed}", synthetic.scores(0.9, rows=20, seed=seed), seed=seed, adapter={"kind": "lora"})
        write(f"full{seed}", synthetic.scores(0.9, rows=20, seed=seed), seed=seed, adapter={"kind": "full"})
    groups, _ = group_runs(find_scores([f"{tmp_path}/trec/*"], "test")[0])
    side, candidates, _ = choose_baseline(f"{tmp_path}/trec/lora*", groups, "test")
    assert side.name == "adapter.kind=lora"
    assert [run.path.name for run in side.runs] == ["lora1", "lora2"]
    assert [group.name for group in candidates] == ["adapter.kind=full"]


def test_an_unrelated_run_does_not_lengthen_other_names(write: Write, tmp_path: Path) -> None:
    table, short, long = synthetic.scores(0.9, rows=20), {"path": "a.csv"}, {"path": "another/folder/with/rows.parquet"}
    for seed in (1, 2):
        for kind in ("lora", "full"):
            write(f"{kind}{seed}", table, seed=seed, data=short, adapter={"kind": kind}, note="first try")
    odd = {"data": long, "adapter": {"kind": "qlora"}, "note": "a stranger from elsewhere, with much to say"}
    write("stranger", table, seed=1, **odd)
    groups, _ = group_runs(find_scores([f"{tmp_path}/trec/*"], "test")[0])
    assert {group.name for group in groups} == {"adapter.kind=lora", "adapter.kind=full", "adapter.kind=qlora"}


def test_a_setting_that_earlier_runs_lack_is_not_part_of_a_name(write: Write, tmp_path: Path) -> None:
    write("old", synthetic.scores(0.9, rows=20), seed=1, adapter={"kind": "lora"})
    write("new", synthetic.scores(0.9, rows=20), seed=1, adapter={"kind": "full"}, score={"top_p": 1.0})
    groups, _ = group_runs(find_scores([f"{tmp_path}/trec/*"], "test")[0])
    assert {group.name for group in groups} == {"adapter.kind=full", "adapter.kind=lora"}


def test_a_baseline_from_elsewhere_has_another_name_than_the_candidate(write: Write, tmp_path: Path) -> None:
    def names(baseline: str, candidate: str) -> list[str]:
        groups, _ = group_runs(find_scores([candidate], "test")[0])
        side, candidates, _ = choose_baseline(baseline, groups, "test")
        return [group.name for group in with_distinct_names([side, *candidates])]

    table = synthetic.scores(0.9, rows=20)
    for place, size in (("old/trec", 8), ("new/trec", 8), ("trec", 4)):
        for seed in (1, 2):
            write(f"../{place}/s{seed}", table, seed=seed, batch={"size": size})
    assert names(f"{tmp_path}/old/trec/s1", f"{tmp_path}/new/trec/s1") == ["old/trec/s1", "new/trec/s1"]
    assert names(f"{tmp_path}/old/trec/s*", f"{tmp_path}/new/trec/s*") == ["old/trec", "new/trec"]
    assert names(f"{tmp_path}/trec/s*", f"{tmp_path}/new/trec/s*") == ["batch.size=4", "batch.size=8"]
    write("long1", table, seed=1, note="a" * 80)
    write("long2", table, seed=2, note="a" * 80)
    assert names(f"{tmp_path}/trec/s*", f"{tmp_path}/trec/long*") == ["trec/s1 and 1 more", "trec/long1 and 1 more"]


def test_runs_of_different_base_models_have_no_common_base(write: Write, tmp_path: Path) -> None:
    table = synthetic.scores(0.9, rows=20)
    write("one", table, table, model={"name": "tiny"})
    write("two", table, table, model={"name": "huge"})
    groups, _ = group_runs(find_scores([f"{tmp_path}/trec/*"], "test")[0])
    (reported,) = faults(lambda: choose_baseline("base", groups, "test"))
    assert "different base models" in reported
    assert "huge" in reported
    (reported,) = faults(lambda: choose_baseline("base", [], "test"))
    assert "no run has scores of its base model" in reported


def test_different_test_sets_are_refused_with_the_ids() -> None:
    whole = synthetic.scores(0.9, rows=20)
    sides = [
        Group("old", (ScoredRun(Path("old"), whole),)),
        Group(
            "new", (ScoredRun(Path("new"), whole.slice(1)), ScoredRun(Path("twice"), pa.concat_tables([whole, whole])))
        ),
    ]
    reported = faults(lambda: same_examples(sides))
    assert "not the test set of old: lacks 1 examples (0000000000000000), adds 0 examples" in reported[0]
    assert "twice: its score table repeats 20 example ids" in reported[1]


def test_tables_come_in_one_order() -> None:
    whole = synthetic.scores(0.9, rows=20)
    turned = whole.take(pa.array(range(19, -1, -1)))
    sides = [Group("old", (ScoredRun(Path("old"), whole),)), Group("new", (ScoredRun(Path("new"), turned),))]
    assert [item.first["example_id"] for item in same_examples(sides)] == [whole["example_id"]] * 2


def test_a_cross_validation_is_compared_by_what_its_folds_left_out(write: Write, tmp_path: Path) -> None:
    folder = write("cv")
    synthetic.write_scores(folder, "out_of_fold", synthetic.scores(0.9, rows=20))
    (run,), _ = find_scores([str(folder)], "test")
    assert run.out_of_fold
    assert run.table.num_rows == 20


def test_an_evaluation_of_a_run_was_trained_as_that_was_and_one_of_a_model_has_no_seed(
    write: Write, tmp_path: Path
) -> None:
    run = write("trained", synthetic.scores(0.9, rows=20), seed=7)
    (run / "run.json").write_text(json.dumps({"data": {"fingerprint": "9f3c"}}))
    for name, of in (("one", str(run)), ("two", None)):
        folder = tmp_path / "evaluations" / name
        folder.mkdir(parents=True)
        (folder / "evaluation.json").write_text(json.dumps({"run": of}))
        synthetic.write_scores(folder, "test", synthetic.scores(0.9, rows=20))
    (tmp_path / "evaluations" / "one" / "config.yaml").write_text((run / "config.yaml").read_text())
    (first, two), _ = find_scores([str(tmp_path / "evaluations")], "test")
    assert (first.seed, first.fingerprint) == (7, "9f3c")
    assert (two.seed, two.trained) == (None, False)


def test_evaluations_scored_differently_are_different_configurations(write: Write, tmp_path: Path) -> None:
    run = write("trained", synthetic.scores(0.9, rows=20), seed=7)
    for name, labels in (("one", "exact"), ("two", "argmax")):
        folder = tmp_path / "evaluations" / name
        folder.mkdir(parents=True)
        record = {"run": str(run), "asked": {"run": str(run), "score": {"labels": labels}}}
        (folder / "evaluation.json").write_text(json.dumps(record))
        (folder / "config.yaml").write_text((run / "config.yaml").read_text())
        synthetic.write_scores(folder, "test", synthetic.scores(0.9, rows=20))
    groups, notices = group_runs(find_scores([str(tmp_path / "evaluations")], "test")[0])
    assert [group.name for group in groups] == ["score.labels=exact", "score.labels=argmax"]
    assert notices == []


def test_entries_that_overlap_name_each_run_once(write: Write, tmp_path: Path) -> None:
    run = write("done", synthetic.scores(0.9, rows=20))
    runs, _ = find_scores([str(run), f"{run.parent}/*", f"{run.parent}/do*"], "test")
    assert [item.path.name for item in runs] == ["done"]
