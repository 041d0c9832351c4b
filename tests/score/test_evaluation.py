"""`kamerton evaluate` on the tiny model: a run again, other data, other models, generated answers, a hosted model."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import kamerton.score.evaluation
import kamerton.score.generate.answers
from kamerton.cli import main
from kamerton.score.columns import labels_of
from kamerton.score.normalizations import answers_by_normalization
from kamerton.score.table import read_scores
from support.endpoint import Endpoint, completion
from support.rows import animals
from support.runs import TINY


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def labelled(folder: Path, own_cache: Path) -> Path:
    """A run on two labels that a letter of the prompt decides."""
    data = animals(folder / "animals.jsonl")
    return _run("labelled", folder, [f"data.path={data}", "optimizer.lr=0.01"])


@pytest.fixture(scope="module")
def free(folder: Path, own_cache: Path) -> Path:
    """A run on free text, whose base and tuned model generate answers to the test split."""
    rows = [{"prompt": f"say {number}", "completion": f"it is {number * 7}"} for number in range(80)]
    data = write(folder / "sums.jsonl", rows)
    more = [f"data.path={data}", "score.mode=generate", "score.max_new_tokens=5", "data.near_duplicates=null"]
    return _run("free", folder, [*more, "adapter=full"])


def _run(name: str, folder: Path, overrides: list[str]) -> Path:
    command = ["train", *TINY, "trainer.max_steps=4", f"name={name}", f"run_id={name}", f"paths.outputs={folder}"]
    assert main([*command, *overrides]) == 0
    return folder / name / name


def evaluate(outputs: Path, *overrides: str, code: int = 0) -> dict[str, Any]:
    """Return the evaluation's record, with its directory under `path`."""
    assert main(["evaluate", f"paths.outputs={outputs}", *overrides]) == code
    result = sorted(outputs.glob("evaluations/*/evaluation.json"), key=lambda path: path.stat().st_mtime_ns)
    return {"path": result[-1].parent, **json.loads(result[-1].read_text())} if result else {}


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}


@pytest.mark.parametrize("kind", ["labelled", "free"])
def test_a_run_on_its_own_test_split_has_exactly_the_numbers_of_the_run(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run = request.getfixturevalue(kind)
    result = evaluate(tmp_path, f"run={run}")
    assert "–" not in capsys.readouterr().out  # metrics that do not apply are left out
    assert numbers(result["metrics"]["test"]) == json.loads((run / "run.json").read_text())["metrics"]["test"]
    again, before = (read_scores(path / "scores" / "test.parquet") for path in (result["path"], run))
    assert again.to_pylist() == before.to_pylist()
    assert again.schema.metadata == before.schema.metadata
    assert result["state"] == "succeeded"
    assert set(result["intervals"]["test"]) <= set(result["metrics"]["test"])
    assert (result["path"] / "config.yaml").read_text() == (run / "config.yaml").read_text()


def test_generated_answers_have_text_metrics_and_say_how_they_ended(free: Path) -> None:
    record = json.loads((free / "run.json").read_text())
    assert {"exact_match", "normalised_match", "rougeL", "bleu", "chrf", "loss"} <= record["metrics"]["test"].keys()
    table = read_scores(free / "scores" / "test.parquet")
    assert set(table["finish_reason"].to_pylist()) <= {"stop", "length"}
    assert table["prediction"].null_count == 0
    assert not list((free / "scores").glob(".*"))


def test_another_checkpoint_and_the_exported_model_are_evaluated(free: Path, tmp_path: Path) -> None:
    last = evaluate(tmp_path, f"checkpoint={free / 'checkpoints' / 'last.ckpt'}", "score.mode=reference")
    assert last["checkpoint"].endswith("last.ckpt")
    own = evaluate(tmp_path, f"run={free}", "score.mode=reference", "limit=5")
    data = json.loads((free / "run.json").read_text())["data"]["report"]["name"]
    assert data == "jsonl"
    file = free.parent.parent / "sums.jsonl"
    command = ["model=hub", f"model.name={free / 'model'}", "data=jsonl", f"data.path={file}"]
    exported = evaluate(tmp_path, *command, "data.near_duplicates=null", "limit=5", "score.mode=reference")
    assert numbers(exported["metrics"]["test"]) == pytest.approx(numbers(own["metrics"]["test"]), rel=1e-5)
    assert exported["data"]["examples"] == 5


def test_the_exported_model_reads_columns_as_in_training(free: Path, tmp_path: Path) -> None:
    form = json.loads((free / "model" / "prompt.json").read_text())
    assert form == {"prompt": "{prompt}", "completion": "{completion}"}
    model = shutil.copytree(free / "model", tmp_path / "model")
    (model / "prompt.json").write_text(json.dumps({"prompt": "Say {what}!", "completion": "{said}"}))
    file = write(tmp_path / "test.jsonl", [{"what": f"{number}", "said": f"it is {number}"} for number in range(3)])
    result = evaluate(tmp_path, "model=hub", f"model.name={model}", "data=jsonl", f"data.test={file}")
    table = read_scores(result["path"] / "scores" / "test.parquet")
    assert sorted(table["prompt"].to_pylist()) == ["Say 0!", "Say 1!", "Say 2!"]


def test_an_adapter_folder_is_evaluated_with_its_base(labelled: Path, tmp_path: Path) -> None:
    own = evaluate(tmp_path, f"run={labelled}")
    file = labelled.parent.parent / "animals.jsonl"
    command = ["model=hub", f"model.name={labelled / 'model'}", "data=jsonl", f"data.path={file}"]
    result = evaluate(tmp_path, *command)
    base = json.loads((labelled / "run.json").read_text())["metrics"]["base"]["loss"]
    assert result["metrics"]["test"]["loss"] != pytest.approx(base, rel=1e-3)  # tiny's base has the weights of seed 0
    assert result["data"]["labels"] == own["data"]["labels"]


def test_the_table_of_one_way_of_scoring_holds_the_answers_of_the_others(labelled: Path, tmp_path: Path) -> None:
    table = read_scores(labelled / "scores" / "test.parquet")
    answers = answers_by_normalization(table)
    for name in ("token", "byte"):
        command = ["evaluate", f"run={labelled}", f"score.normalization={name}", f"paths.outputs={tmp_path}"]
        assert main([*command, f"name={name}"]) == 0
        scored = read_scores(tmp_path / "evaluations" / name / "scores" / "test.parquet")
        assert scored["predicted_label"].to_pylist() == [labels_of(table)[at] for at in answers[name]]


def test_a_run_is_named_by_its_id_below_the_folder_of_outputs(labelled: Path, tmp_path: Path, capsys: Any) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(labelled, outputs / "mine" / "k9")
    for name in ("k9", "mine/k9"):
        assert main(["evaluate", f"run={name}", f"paths.outputs={outputs}", f"name={name[-2:]}", "limit=4"]) == 0
    shutil.copytree(labelled, outputs / "yours" / "k9")
    assert main(["evaluate", "run=k9", f"paths.outputs={outputs}"]) == 2
    assert f"run={outputs / 'mine' / 'k9'}" in capsys.readouterr().err


def test_a_separate_test_file_is_scored_completely_with_the_runs_labels(labelled: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"a new cat {number}", "completion": "yes"} for number in range(7)]
    file, table_file = write(tmp_path / "new.jsonl", rows), tmp_path / "new.csv"
    table_file.write_text("prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in rows))
    for typed in (["data=jsonl", f"data.test={file}"], [f"data.test={file}"], [f"data.test={table_file}"]):
        result = evaluate(tmp_path, f"run={labelled}", *typed)
        table = read_scores(result["path"] / "scores" / "test.parquet")
        assert sorted(table["prompt"].to_pylist()) == sorted(row["prompt"] for row in rows)
        assert json.loads(table.schema.metadata[b"labels"]) == ["no", "yes"]
        assert len(table["label_logprobs"][0].as_py()) == 2
    strange = write(tmp_path / "strange.jsonl", [*rows, {"prompt": "a cow", "completion": "perhaps"}])
    evaluate(tmp_path, f"run={labelled}", f"data.test={strange}", code=2)


def test_a_test_file_with_training_rows_is_named_and_said_to_be_seen(
    labelled: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(tmp_path, f"run={labelled}", f"data.test={folder / 'animals.jsonl'}")
    shown = " ".join(capsys.readouterr().out.split())
    assert "animals.jsonl by labelled/labelled: 120 examples" in shown
    trained = json.loads((labelled / "run.json").read_text())["data"]["counts"]["train"]
    assert f"trained on {trained} of these 120 examples" in shown, shown
    unseen = write(tmp_path / "unseen.jsonl", [{"prompt": "a new cat", "completion": "yes"}])
    evaluate(tmp_path, f"run={labelled}", f"data.test={unseen}")
    assert "trained on" not in capsys.readouterr().out


def test_a_separate_test_file_does_not_need_the_split_fields(folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} of {n % 6}", "completion": f"{n}", "metadata": {"writer": n % 6}} for n in range(40)]
    data = write(tmp_path / "written.jsonl", rows)
    run = _run("grouped", tmp_path, [f"data.path={data}", "split.group=writer", "data.near_duplicates=null"])
    file = write(tmp_path / "plain.jsonl", [{"prompt": "7 of 1", "completion": "7"}])
    assert evaluate(tmp_path, f"run={run}", f"data.test={file}")["data"]["examples"] == 1


def test_constrained_answers_are_labels_and_count_as_predictions(labelled: Path, tmp_path: Path) -> None:
    result = evaluate(tmp_path, f"run={labelled}", "score.mode=generate", "score.constrain=true")
    table = read_scores(result["path"] / "scores" / "test.parquet")
    assert set(table["predicted_label"].to_pylist()) <= {"yes", "no"}
    assert table["predicted_label"].null_count == 0
    assert {"accuracy", "f1", "f1_micro", "f1_weighted"} <= numbers(result["metrics"]["test"]).keys()
    assert [row["label"] for row in result["per_class"]["test"]] == ["no", "yes"]


@pytest.mark.slow
def test_a_stopped_evaluation_resumes_to_the_same_table(
    free: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [f"run={free}", "batch.max_tokens=64", "score.temperature=1.0"]
    whole = evaluate(tmp_path / "whole", *command)
    batch_counts: list[int] = []
    plain = kamerton.score.generate.answers.generate

    def stopping(model: Any, prompts: Any, batches: Any, *more: Any, **options: Any) -> Any:
        batch_counts.append(len(batches))
        for done, part in enumerate(plain(model, prompts, batches, *more, **options)):
            yield part
            if len(batch_counts) == 1 and done == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(kamerton.score.generate.answers, "generate", stopping)
    stopped = evaluate(tmp_path / "stopped", *command, code=130)
    assert stopped["state"] == "paused"
    result = evaluate(tmp_path / "stopped", *command)
    assert batch_counts[1] == batch_counts[0] - 2
    tables = [read_scores(item["path"] / "scores" / "test.parquet") for item in (whole, result)]
    assert tables[0].to_pylist() == tables[1].to_pylist()


def test_a_repeated_command_requests_only_the_missing_hosted_answers(
    free: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefghijklmnop")
    rows = [{"prompt": f"say {number}", "completion": f"it is {number}"} for number in range(9)]
    file = write(tmp_path / "ask.jsonl", rows)

    def answer(number: int, body: dict[str, Any]) -> Any:
        if number > 4 and not mended:
            return 400, {}, {"error": {"message": "no credit"}}
        return completion("it is " + body["messages"][0]["content"].removeprefix("say "))

    mended: list[bool] = []
    with Endpoint(answer) as endpoint:
        engine = ["engine=hosted", f"engine.url={endpoint.url}", "engine.concurrency=1"]
        command = [*engine, "model=hub", "model.name=big-one", "data=jsonl", f"data.test={file}", "data.labels=null"]
        assert evaluate(tmp_path, *command, code=2)["state"] == "failed"
        assert "no credit" in capsys.readouterr().err
        mended.append(True)
        result = evaluate(tmp_path, *command)
        assert len(endpoint.requests) == 4 + 1 + 5
        assert evaluate(tmp_path, *command)["metrics"] == result["metrics"]
        assert "9 answers of an earlier command" in capsys.readouterr().out
    assert len(endpoint.requests) == 4 + 1 + 5
    assert result["metrics"]["test"]["exact_match"] == 1.0
    assert result["metrics"]["test"]["loss"] is None
    written = "".join(path.read_text() for path in result["path"].rglob("*") if path.suffix == ".json")
    assert "sk-abcdefghijklmnop" not in written + capsys.readouterr().out


def test_custom_metrics_are_in_the_table_and_the_record(
    free: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("my_metrics")
    exec('def words(table):\n    return [len(text.split()) for text in table["target"].to_pylist()]', module.__dict__)
    monkeypatch.setitem(sys.modules, "my_metrics", module)
    mine = ["metrics.words._target_=my_metrics.words", "allow_targets=[my_metrics.]"]
    result = evaluate(tmp_path, f"run={free}", "score.mode=reference", *mine)
    assert result["metrics"]["test"]["words"] == 3.0
    assert result["intervals"]["test"]["words"] == [3.0, 3.0]


def test_a_run_without_rewards_is_evaluated_with_those_that_are_typed(free: Path, tmp_path: Path) -> None:
    rewards = ["reward=[length,exact_match]", "reward.length.most=1", "reward.length.weight=0.5"]
    result = evaluate(tmp_path, f"run={free}", "score.mode=generate", *rewards)
    metrics = result["metrics"]["test"]
    expected = metrics["reward_exact_match"] + 0.5 * metrics["reward_length"]
    assert metrics["reward"] == pytest.approx(expected)
    assert metrics["reward_exact_match"] == metrics["exact_match"]


def test_a_reward_that_fails_is_reported_before_answers_are_generated(
    free: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("my_rewards")
    exec("def broken(prompt, completion, reference, metadata):\n    return 1 / 0", module.__dict__)
    monkeypatch.setitem(sys.modules, "my_rewards", module)
    monkeypatch.setattr(kamerton.score.evaluation, "score_tests", lambda *_: pytest.fail("answers were generated"))
    mine = ["reward._target_=my_rewards.broken", "allow_targets=[my_rewards.]"]
    evaluate(tmp_path, f"run={free}", "score.mode=generate", *mine, code=2)
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "sums.jsonl" in shown
    evaluate(tmp_path, f"run={free}", "score.mode=generate", *grader(tmp_path, "{{item.other}}"), code=2)
    assert "the row has no other, which the grader reads" in capsys.readouterr().err


def test_another_grader_in_the_same_file_is_another_evaluation(free: Path, tmp_path: Path) -> None:
    command = [f"run={free}", "score.mode=generate", "score.max_new_tokens=5"]
    same, other = (
        evaluate(tmp_path, *command, *grader(tmp_path, reference))
        for reference in ("{{sample.output_text}}", "{{item.prompt}}")
    )
    assert same["path"] != other["path"]
    assert [result["metrics"]["test"]["reward"] for result in (same, other)] == [1.0, 0.0]


def grader(folder: Path, reference: str) -> list[str]:
    """Write a grader that compares the answer with `reference`, and return the overrides that choose it."""
    check = {"type": "string_check", "name": "check", "operation": "eq", "input": "{{sample.output_text}}"}
    (folder / "grader.json").write_text(json.dumps({**check, "reference": reference}))
    return ["reward=grader", f"reward.grader.file={folder / 'grader.json'}"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["score.mode=reference", "reward=exact_match"], "add score.mode=generate"),
        (["score.mode=generate", "reward=label", "reward.label.labels=[yes,no]"], "is none of the labels: yes, no"),
        (["data.rows=preferences", "data.test={pairs}", "reward=exact_match"], "data.rows=completions"),
    ],
)
def test_rewards_that_cannot_be_given_are_faults_before_a_model_is_loaded(
    options: list[str], words: str, free: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("kamerton.score.target.load_run", lambda *_: pytest.fail("a model is loaded"))
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": f"{i}?", "chosen": "a", "rejected": "b"} for i in range(9)])
    evaluate(tmp_path, f"run={free}", *(option.format(pairs=pairs) for option in options), code=2)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "no run, checkpoint or model given"),
        (["run=nowhere"], "run not found"),
        (["run=nowhere", "model=tiny"], "run and model are both given"),
        (["model=tiny"], "no evaluation data given"),
        (["model=tiny", "data.test=nowhere.jsonl"], "nowhere.jsonl:data.test: there is no such file"),
        (["model=hub", "model.name=./nowhere", "data=jsonl"], "there is no such folder"),
        (["engine=hosted", "run=nowhere"], "needs the name of its model"),
        (["engine=hosted", "model=tiny", "score.mode=labels"], "needs probabilities"),
        (["engine=vllm", "model=tiny", "data=jsonl"], "needs the package vllm"),
        (["model=tiny", "lm_eval.tasks=[arc_easy]"], "needs lm-evaluation-harness"),
        (["model=tiny", "scroe.mode=labels"], "unknown configuration key 'scroe'"),
        (["model=tiny", "score.top_p=2"], "score.top_p is 2"),
        (["model=tiny", "metrics.x._target_=os.system"], "may not be used as a target"),
        (["model=tiny", "reward._target_=os.system"], "allow_targets"),
    ],
)
def test_invalid_evaluations_are_reported(
    overrides: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(tmp_path, *overrides, code=2)
    assert words in capsys.readouterr().err


def test_a_cross_validation_is_refused_with_a_fold_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cv" / "k1"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("name: cv\n")
    (path / "run.json").write_text(json.dumps({"state": "succeeded", "cv": {"folds": 3}}))
    evaluate(tmp_path, "run=cv/k1", code=2)
    shown = capsys.readouterr().err
    assert "a cross-validation has no model; each of its 3 folds has one" in shown
    assert f"run={path}/folds/0" in shown


def test_a_name_that_was_used_for_something_else_is_refused(
    free: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(tmp_path, f"run={free}", "score.mode=reference", "name=mine")
    evaluate(tmp_path, f"run={free}", "score.mode=reference", "name=mine")
    evaluate(tmp_path, f"run={free}", "score.mode=reference", "name=mine", "limit=3", code=2)
    assert "exists already, with other options" in capsys.readouterr().err


def test_what_comes_from_the_environment_is_written_by_its_name(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"the cat number {number}", "completion": "yes"} for number in range(3)]
    file = write(tmp_path / "hidden-place.jsonl", rows)
    monkeypatch.setenv("OWN_FILE", str(file))
    result = evaluate(tmp_path / "out", f"run={labelled}", "data=jsonl", "data.test=${oc.env:OWN_FILE}")
    assert result["state"] == "succeeded"
    assert result["asked"]["data"]["test"] == "${oc.env:OWN_FILE}"
    assert "hidden-place" not in (result["path"] / "evaluation.json").read_text()
    monkeypatch.setenv("OWN_FILE", str(write(tmp_path / "other.jsonl", rows[:2])))
    again = evaluate(tmp_path / "out", f"run={labelled}", "data=jsonl", "data.test=${oc.env:OWN_FILE}")
    assert again["path"] != result["path"], "another file is another evaluation"


def test_a_run_does_not_vouch_for_code_of_its_own(labelled: Path, folder: Path, capsys: Any) -> None:
    copy = folder / "foreign"
    shutil.copytree(labelled, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["model"]["trust_remote_code"] = True
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["evaluate", f"run={copy}", f"paths.outputs={folder}"]) == 2
    assert "model.trust_remote_code=true" in capsys.readouterr().err
    config["model"]["trust_remote_code"] = False
    config |= {"allow_targets": ["os."], "metrics": {"own": {"_target_": "os.getcwd"}}}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["evaluate", f"run={copy}", f"paths.outputs={folder}"]) == 2
    assert "os.getcwd" in capsys.readouterr().err


@pytest.mark.slow
def test_calls_of_every_turn_are_generated_and_judged_by_default(folder: Path, own_cache: Path, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    rows = []
    for number in range(40):
        function = {"name": "weather", "arguments": json.dumps({"city": number})}
        call = {"id": "a", "type": "function", "function": function}
        turns = [
            {"role": "user", "content": f"Weather in {number}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "assistant", "content": f"It rains in {number}."},
        ]
        rows.append({"messages": turns, "tools": tools})
    data = write(folder / "calls.jsonl", rows)
    run = _run(
        "calls",
        folder,
        [f"data.path={data}", "score.max_new_tokens=3", "data.near_duplicates=null", "split.ratios=[0.6,0.2,0.2]"],
    )
    table = read_scores(run / "scores" / "test.parquet").to_pylist()
    assert {(row["target_calls"] == "[]", row["target"] == "") for row in table} == {(True, False), (False, True)}
    assert len(table) % 2 == 0
    assert {row["predicted_calls"] for row in table} == {"[]"}
    result = evaluate(tmp_path, f"run={run}")
    assert result["metrics"]["test"]["call_missing"] == 1
    assert numbers(result["metrics"]["test"]) == json.loads((run / "run.json").read_text())["metrics"]["test"]
