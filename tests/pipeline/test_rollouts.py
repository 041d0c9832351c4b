"""Training on rewards from the command line: what a run keeps, what fails, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from kamerton.config.rewards import GRADER, build_reward
from kamerton.data.example import DataExample
from kamerton.errors import Fault, UserError
from kamerton.pipeline import rollouts
from kamerton.score.generate.batched import Answer, Prompt
from kamerton.score.generate.sampling import Decoding
from kamerton.score.table import read_scores
from support.rows import write_jsonl
from support.runs import LEAN, Train, metric_rows, record, trainer, weights

OPTIONS = (
    *(option for option in LEAN if not option.startswith("batch.size")),
    *("objective=grpo", "objective.samples=3", "objective.max_new_tokens=6", "score.max_new_tokens=6"),
    *(
        "reward.length._target_=kamerton.objective.rewards.length",
        "reward.length.most=4",
        "reward.length.unit=characters",
    ),
    *("batch.size=2", "optimizer.lr=1e-2", "trainer.max_steps=4", "save.strategy=steps", "save.every=1"),
    *(
        "eval.strategy=steps",
        "eval.every=2",
        "eval.sample=3",
        "data.near_duplicates=null",
        "adapter=lora",
        "run_id=one",
    ),
)


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    rows = [{"prompt": f"{a} + {b} =", "completion": str(a + b), "level": a} for a in range(1, 6) for b in range(1, 6)]
    return write_jsonl(tmp_path / "sums.jsonl", rows)


def samples(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def test_a_run_learns_from_rewards_and_keeps_what_it_sampled(sums: Path, tmp_path: Path) -> None:
    task = write_jsonl(tmp_path / "task.jsonl", [{"prompt": "7 + 7 =", "completion": "14"}])
    options = ["base=true", "objective.kl_weight=0.1", "objective.updates=2", f"score.data={task}"]
    run = trainer(sums, tmp_path / "outputs", *OPTIONS)(*options)
    rows = [row for row in metric_rows(run) if row.get("train/reward")]
    assert len(rows) == 4
    assert max(float(row["train/sampling_gap"]) for row in rows) < 1e-4
    assert float(rows[0]["train/kl"]) == 0
    assert float(rows[-1]["train/kl"]) > 0
    kept = samples(run)
    assert all(("prompt" in row) == (row["number"] == 0) for row in kept)
    assert [sum(row["step"] == step for row in kept) for step in range(4)] == [6] * 4
    for step, row in enumerate(rows):
        rewards = [sample["reward"] for sample in kept if sample["step"] == step]
        assert float(row["train/reward"]) == pytest.approx(sum(rewards) / len(rewards), rel=1e-5)
    assert all(row["rewards"] == {"length": row["reward"]} for row in kept)
    metrics = record(run)["metrics"]
    for name in ("test", "base", "task", "task_base"):
        values = read_scores(run / "scores" / f"{name}.parquet")["metric:reward"].to_pylist()
        assert metrics[name]["reward"] == pytest.approx(sum(values) / len(values))
    assert record(run)["best"]["monitor"] == "val/reward"


EDITING = """
from pathlib import Path

def edit(prompt, completion, reference, metadata, folder):
    if any(Path(folder).rglob("samples.jsonl")):  # after the first step
        file = Path(folder, "grader.json")
        file.write_text(file.read_text().replace('"eq"', '"ne"'))
    return 0.0
"""


@pytest.fixture
def edited(sums: Path, tmp_path: Path, module: Callable[[str, str], None]) -> tuple[Train, Path]:
    """A function that trains on a grader that is always 1, in a file that is edited after the first step; the file."""
    file = tmp_path / "grader.json"
    file.write_text(
        json.dumps({"type": "string_check", "name": "a", "operation": "eq", "input": "a", "reference": "a"})
    )
    module("editing", EDITING)
    options = [option for option in OPTIONS if not option.startswith("reward.")]
    own = ["reward.edit._target_=editing.edit", f"reward.edit.folder={tmp_path}", "allow_targets=[editing.]"]
    outputs = tmp_path / "outputs"
    return trainer(sums, outputs, *options, "reward=grader", f"reward.grader.file={file}", *own), file


def test_a_grader_that_is_edited_while_the_run_trains_changes_no_reward(edited: tuple[Train, Path]) -> None:
    train, file = edited
    grader = file.read_text()
    run = train()
    assert file.read_text() != grader
    assert {row["rewards"]["grader"] for row in samples(run)} == {1.0}
    assert record(run)["metrics"]["test"]["reward_grader"] == 1.0
    assert (run / "graders" / "0.json").read_text() == grader


@pytest.mark.slow
def test_a_grader_that_is_edited_between_folds_is_a_fault(
    edited: tuple[Train, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    edited[0]("cv.folds=2", "trainer.max_steps=2", code=2)
    assert "fold 1: run one was started with another grader" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_on_rewards_needs_no_validation_split(sums: Path, tmp_path: Path) -> None:
    run = trainer(sums, tmp_path / "outputs", *OPTIONS)("split.ratios=[0.8,0,0.2]", "trainer.max_steps=1", "base=false")
    assert record(run)["metrics"]["test"]["reward"] >= 0
    assert "best" not in record(run)["metrics"]


def test_a_failed_reward_names_the_example_and_the_run_goes_on_to_the_same_bits(
    sums: Path, tmp_path: Path, module: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    broken, kept = tmp_path / "broken", tmp_path / "a" / "sums" / "one" / "samples.jsonl"
    module(
        "my_rewards",
        "from pathlib import Path\nimport torch\n"
        f"kept, broken = Path({str(kept)!r}), Path({str(broken)!r})\n"
        "def short(prompt, completion, reference, metadata, *, limit):\n"
        "    assert int(reference) > metadata['level'] and prompt.endswith('=')\n"
        "    if broken.exists() and kept.exists() and len(kept.read_text().splitlines()) >= 12:\n"
        "        raise LookupError('no dictionary')\n"
        "    torch.set_grad_enabled(False)\n"
        "    return -abs(len(completion) - limit)\n",
    )
    own = ("reward._target_=my_rewards.short", "reward.limit=2", "allow_targets=[my_rewards.]", "name=sums")
    options = [option for option in OPTIONS if not option.startswith("reward.")]
    train = trainer(sums, tmp_path / "a", *options)
    broken.touch()
    train(*own, code=1)
    error = capsys.readouterr().err
    assert "reward short failed: LookupError: no dictionary" in error
    assert "reward.failed" in error
    broken.unlink()
    resumed = train(*own, "resume=auto")
    whole = trainer(sums, tmp_path / "b", *options)(*own)
    assert (resumed / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(resumed)[name])


def test_calls_of_functions_are_graded_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = {"prediction": "", "predicted_calls": '[{"name": "add", "arguments": {"a": 1}}]'}
    check = {"type": "string_check", "name": "check", "operation": "eq", "reference": "{{item.wanted}}"}
    (tmp_path / "grader.json").write_text(json.dumps({**check, "input": "{{sample.output_tools[0].function.name}}"}))
    node = {"_target_": GRADER, "file": str(tmp_path / "grader.json")}
    monkeypatch.setattr(rollouts, "make_prompts", lambda *_: ([Prompt("a", np.array([1]))], frozenset()))
    monkeypatch.setattr(rollouts, "AnswerReader", lambda *_: lambda position, tokens: made)
    monkeypatch.setattr(rollouts.RollOuts, "_generate", lambda *_: [Answer((1,), "stop", logprobs=(0.0,))] * 2)
    example = DataExample("1 + 1?", "", {"wanted": "add"})
    rows = SimpleNamespace(examples=[example], ids=pa.array(["x"]))
    data: Any = SimpleNamespace(select=lambda _: rows)
    reward, file = build_reward("grader", node, ()), tmp_path / "samples.jsonl"
    roll_out = rollouts.RollOuts(data, None, (reward,), Decoding(4), 2, 64, file, writes=True)
    assert roll_out(None, [0], 0).rewards.tolist() == [[1.0, 1.0]]
    (call,) = samples(tmp_path)[0]["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": '{"a": 1}'}


def test_the_other_ranks_learn_of_a_prompt_that_is_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def too_long(*_: Any) -> None:
        raise UserError(
            [Fault("generate.too-long", "1 prompts fill all 8 positions of the model", "lower data.max_length")]
        )

    told = []
    monkeypatch.setattr(rollouts, "make_prompts", lambda *_: ([], frozenset()))
    monkeypatch.setattr(rollouts, "exchange", lambda value: told.append(value) or [value])
    monkeypatch.setattr(rollouts.RollOuts, "_generate", too_long)
    data = SimpleNamespace(select=lambda _: None)
    roll_out = rollouts.RollOuts(data, None, (), Decoding(4), 2, 64, tmp_path / "samples.jsonl", writes=True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="too-long"):
        roll_out(None, [0], 0)
    assert told == [([], True)]


def test_prompts_alone_are_trained_on_and_scored_by_their_rewards(
    sums: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in sums.read_text().splitlines()]
    alone = write_jsonl(tmp_path / "alone.jsonl", [{"prompt": row["prompt"], "level": row["level"]} for row in rows])
    train = trainer(alone, tmp_path / "outputs", *OPTIONS)
    run = train("base=true", "trainer.max_steps=2")
    logged = [row for row in metric_rows(run) if row.get("val/reward")]
    assert len(logged) == 1
    assert {name for name, value in logged[0].items() if name.startswith("val/") and value} == {"val/reward"}
    table = read_scores(run / "scores" / "test.parquet")
    assert set(table["target"].to_pylist()) == {""}
    assert table["nll"].null_count == table.num_rows
    assert json.loads(table["metadata"][0].as_py()).keys() == {"level"}
    metrics = record(run)["metrics"]
    assert metrics["test"].keys() == metrics["base"].keys() == {"reward"}
    assert metrics["best"]["reward"] == pytest.approx(float(logged[0]["val/reward"]))
    capsys.readouterr()
    train("reward=exact_match", "run_id=two", code=2)
    error = capsys.readouterr().err
    assert "alone.jsonl:1" in error
    assert "25 of 25 rows have none" in error
    assert "data.columns.completion=NAME" in error
    train("callbacks.checkpoint_best.monitor=val/loss", "run_id=two", code=2)
    assert "callbacks.checkpoint_best.monitor=val/reward" in capsys.readouterr().err


def test_the_loss_of_a_validation_is_that_of_the_rows_with_completions(sums: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in sums.read_text().splitlines()]
    some = [{**row, "completion": None} if number % 2 else row for number, row in enumerate(rows[15:])]
    for name, part in (("train", rows[:15]), ("some", some), ("answered", rows[15::2])):
        write_jsonl(tmp_path / f"{name}.jsonl", part)
    losses = {}
    for name in ("some", "answered"):
        words = (f"data.train={tmp_path}/train.jsonl", f"data.validation={tmp_path}/{name}.jsonl", "data.path=null")
        run = trainer(sums, tmp_path / name, *OPTIONS)(*words, "trainer.max_steps=2")
        losses[name] = [float(row["val/loss"]) for row in metric_rows(run) if row.get("val/loss")]
    assert losses["some"] == pytest.approx(losses["answered"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        (("reward=default",), "add reward=exact_match"),
        (("reward=label",), "reward.label.labels"),
        (("reward=exact_match", "reward.exact_match.ignorecase=true"), "ignore_case"),
        (("reward=exact_match", "reward.exact_match.weight=much"), "reward.exact_match.weight"),
        (("reward=exact_match", "reward.exact_match.weight=0"), "set reward.exact_match.weight=1"),
        (("reward._target_=kamerton.objective.rewards.number", "reward.weight=0"), "set reward.weight=1"),
        (("reward=exact_match", "reward.spread._target_=kamerton.objective.rewards.number"), "reward.my_spread"),
        (("reward=exact_match", "adapter.init=pissa", "objective.kl_weight=0.1"), "objective.kl_weight=0"),
        (("reward=exact_match", "trainer=deepspeed"), "choose trainer=fsdp, or trainer=ddp"),
        (("reward._target_=os.system",), "allow_targets"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: tuple[str, ...], fix: str, sums: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(sums, tmp_path, *LEAN, "objective=grpo")(*options, code=2)
    assert fix in capsys.readouterr().err
