"""A run of the tiny model trained on a few non-ASCII texts, and the answers of its evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from kamerton.cli import main

JOB = "ftjob-0123456789abcdef01234567"
_SAID = {"cat": "miau 🐈 żółć", "dog": "hau! 犬", "owl": "hú-hú ☃"}


def train_tuned(root: Path) -> Path:
    """Train a run `root/local/JOB` as a job of the server would; its test split is scored by generating."""
    rows = [{"prompt": f"the {word} {n}", "completion": answer} for n in range(30) for word, answer in _SAID.items()]
    data = root / "texts.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = ["name=local", f"run_id={JOB}", f"paths.outputs={root}", f"data.path={data}"]
    how = [
        "batch.size=8",
        "optimizer.lr=0.02",
        "scheduler.warmup_steps=10",
        "trainer.max_epochs=6",
        "split.ratios=[0.7,0.1,0.2]",
        "base=false",
    ]
    score = ["data.labels=null", "score.mode=generate", "score.max_new_tokens=40", "data.near_duplicates=null"]
    assert main(["train", "model=tiny", "data=jsonl", "callbacks.progress_bar=null", *own, *how, *score]) == 0
    path = root / "local" / JOB
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"request": {"model": "tiny", "suffix": None}}))
    return path


def answers_of(run: Path) -> dict[str, tuple[str, str]]:
    """Prompt → (prediction, finish reason) of the run's own evaluation."""
    table = pq.read_table(run / "scores" / "test.parquet").to_pylist()
    return {row["prompt"]: (row["prediction"], row["finish_reason"]) for row in table}
