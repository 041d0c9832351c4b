"""Loggers and intervals of the configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import wandb
import yaml
from pytorch_lightning.loggers import WandbLogger

from kamerton.cli import main
from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.config.schema import WhenOptions
from kamerton.run.directory import RunDirectory, read_values
from kamerton.train.build import build_loggers, steps_between


@pytest.mark.parametrize(
    ("strategy", "every", "expected"), [("steps", 4, 4), ("steps", 99, 25), ("epoch", 1, 10), ("epoch", 3, 25)]
)
def test_intervals_are_in_steps_and_never_longer_than_the_run(strategy: str, every: int, expected: int) -> None:
    when = WhenOptions(strategy=strategy, every=every)  # type: ignore[arg-type]
    assert steps_between(when, steps_per_epoch=10, total_steps=25) == expected


def test_wandb_offline_holds_the_metrics_and_the_configuration(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}", "run_id=w"]
    options += ["logger=wandb", "trainer.max_steps=3", "callbacks.progress_bar=null", "base=false"]
    assert main(["train", *options]) == 0
    (folder,) = (tmp_path / "jsonl" / "w" / "wandb").glob("offline-run-*")
    leet = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--summary", "--json", str(folder)]
    inspected = json.loads(subprocess.run(leet, capture_output=True, text=True, check=True).stdout)
    text = json.dumps(inspected)
    record = json.loads((tmp_path / "jsonl" / "w" / "run.json").read_text())
    summary, config = _find(inspected, "summary"), _find(inspected, "config")
    assert _number(summary["train/loss"]) == pytest.approx(record["metrics"]["train"]["loss"])
    assert _number(summary["val/loss"]) == pytest.approx(record["metrics"]["validation"]["loss"])
    assert _number(summary["test/accuracy"]) == pytest.approx(record["metrics"]["test"]["accuracy"])
    assert "max_tokens" in json.dumps(config), text[:2000]
    assert _find(summary, "report/confusion")["_type"] == "plotly-file"
    tables = {path.name.partition("_")[0]: json.loads(path.read_text()) for path in folder.rglob("*.table.json")}
    assert tables.keys() == {"metrics", "baselines", "examples"}
    examples = [dict(zip(tables["examples"]["columns"], row, strict=True)) for row in tables["examples"]["data"]]
    scored = pq.read_table(tmp_path / "jsonl" / "w" / "scores" / "test.parquet")
    assert {row["prompt"] for row in examples} == set(scored["prompt"].to_pylist())
    accuracy = next(row for row in tables["metrics"]["data"] if row[0] == "accuracy")
    assert accuracy[2] == pytest.approx(record["metrics"]["test"]["accuracy"])
    assert "TF-IDF, linear" in [row[0] for row in tables["baselines"]["data"]]


def test_runs_of_one_name_are_two_in_wandb_and_a_resumed_one_stays_itself(tmp_path: Path) -> None:
    config = to_config(compose_values(["model=tiny", "data=jsonl", "data.path=x", "logger.wandb.mode=disabled"]))
    (tmp_path / "config.yaml").write_text("{}")
    run = RunDirectory(tmp_path, resuming=False)

    def ids(run: RunDirectory) -> list[str | None]:
        result = [logger for logger in build_loggers(config, run, 0) if isinstance(logger, WandbLogger)]
        wandb.finish()
        return [str(logger._wandb_init["id"]) for logger in result]

    first = ids(run)
    assert ids(RunDirectory(tmp_path, resuming=True, started=read_values(tmp_path))) == first
    assert ids(RunDirectory(tmp_path, resuming=False)) != first


def test_the_runs_of_a_sweep_are_one_group_in_wandb(tmp_path: Path) -> None:
    config = to_config(compose_values(["model=tiny", "data=jsonl", "data.path=x", "logger.wandb.mode=disabled"]))
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "config.yaml").write_text("{}")
    run = RunDirectory(tmp_path / "3", resuming=False)
    run.update(trial={"study": "mine", "number": 3, "params": {}})
    (logger,) = (item for item in build_loggers(config, run, 0) if isinstance(item, WandbLogger))
    wandb.finish()
    assert (logger._wandb_init["group"], logger._wandb_init["name"]) == ("mine", "trial-3")


def test_a_model_in_half_precision_trains(animals: Path, tmp_path: Path) -> None:
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}", "logger=csv"]
    options += ["trainer.max_steps=1", "callbacks.progress_bar=null", "base=false", "model.dtype=bfloat16"]
    assert main(["train", *options, "trainer.accelerator=cpu"]) == 0


def test_no_secret_reaches_a_file(animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_REVISION", "from-the-environment")
    typed = [
        "model=tiny",
        "data=jsonl",
        "batch.size=8",
        "callbacks.progress_bar=null",
        "base=false",
        "trainer.max_steps=1",
        f"data.path={animals}",
        f"paths.outputs={tmp_path}/o",
        "logger=wandb",
        "run_id=one",
    ]
    secrets = ["model.revision=${oc.env:MY_REVISION}", "debug_note=hf_0123456789abcdef"]
    assert main(["train", *typed, *secrets]) == 0
    run = tmp_path / "o" / "jsonl" / "one"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["revision"] == "${oc.env:MY_REVISION}"
    assert config["debug_note"] == "•••"
    overrides = yaml.safe_load((run / "overrides.yaml").read_text())
    assert "model.revision=${oc.env:MY_REVISION}" in overrides
    assert "debug_note=•••" in overrides
    for secret in (b"from-the-environment", b"hf_0123456789abcdef"):
        assert [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()] == []


def _find(node: object, key: str) -> dict[str, object]:
    """The dictionary behind `key`, wherever this version of the tool puts it."""
    if isinstance(node, dict):
        if isinstance(node.get(key), dict):
            return node[key]
        for inner in node.values():
            result = _find(inner, key)
            if result:
                return result
    return {}


def _number(value: object) -> float:
    return float(value["value"] if isinstance(value, dict) else value)  # type: ignore[arg-type]
