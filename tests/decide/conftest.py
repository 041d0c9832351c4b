"""A synthetic run directory, written as a real run writes it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from kamerton.decide.report.run import write_report
from kamerton.score.table import scores_table
from support.chrome import Chrome, chrome

LABELS = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]


def scores(accuracy: float, rows: int = 200, *, labelled: bool = True, seed: int = 0) -> pa.Table:
    """A score table with about `accuracy` right rows; the examples are the same for every `seed`."""
    truth = np.random.default_rng(99).integers(len(LABELS), size=rows)
    generator = np.random.default_rng(seed)
    lines = []
    for i, label in enumerate(truth):
        right = generator.random() < accuracy
        logits = generator.normal(size=len(LABELS))
        logits[label] += 6.0 if right else -1.0
        logprobs = logits - math.log(np.exp(logits).sum())
        guess = int(logits.argmax())
        line = {
            "example_id": f"{i:016x}",
            "prompt": f"Who was climber number {i} of the mountain of questions, and why?",
            "target": LABELS[label],
            "prediction": LABELS[guess],
            "nll": float(-logprobs[label] + 0.1),
            "target_tokens": 3,
            "correct_tokens": 3 if guess == label else 2,
            "metadata": "{}",
        }
        if labelled:
            line |= {
                "label": LABELS[label],
                "predicted_label": LABELS[guess],
                "label_logprobs": logprobs.tolist(),
            }
        lines.append(line)
    return scores_table(lines, LABELS if labelled else None)


def write_scores(run: Path, name: str, table: pa.Table) -> None:
    (run / "scores").mkdir(exist_ok=True)
    pq.write_table(table, run / "scores" / f"{name}.parquet")


def record(**changes: Any) -> dict[str, Any]:
    """The content of run.json."""
    return {
        "state": "succeeded",
        "run_id": "ab12cd34",
        "experiment": "trec",
        "provider": "local",
        "times": {
            "created": "2026-11-22T08:00:00+00:00",
            "started": "2026-11-22T08:00:05+00:00",
            "finished": "2026-11-22T08:05:17+00:00",
        },
        "pid": 4242,
        "heartbeat": "2026-11-22T08:05:17+00:00",
        "progress": {"epoch": 1.0, "step": 300, "steps": 300, "examples": {"processed": 2400, "total": 2400}},
        "metrics": {
            "train": {"loss": 0.31, "token_accuracy": 0.93},
            "validation": {"loss": 0.42, "perplexity": 1.522, "token_accuracy": 0.91},
            "best": {"loss": 0.41, "step": 250},
        },
        "model": {"name": "SmolLM2-135M-Instruct", "parameters": 134515008, "trainable_parameters": 460800},
        "data": {
            "fingerprint": "9f3c2b7a",
            "counts": {"train": 3765, "validation": 807, "test": 807},
            "report": {
                "rows_read": 15452,
                "duplicates_removed": 10073,
                "distinct": 5379,
                "labels": {
                    "train": {"ABBR": 60, "DESC": 800, "ENTY": 860},
                    "test": {"ABBR": 13, "DESC": 180, "ENTY": 190},
                },
            },
        },
        "versions": {"kamerton": "0.1.0", "torch": "2.13.0", "transformers": "5.17.0"},
        "git": {"commit": "77f518d0a1b2c3d4", "dirty": True},
        "seed": 0,
        "trial": None,
        "parent": None,
        "error": None,
        "throughput": {"examples_per_s": 8.71, "tokens_per_s": 412.3},
    } | changes


def write_curves(run: Path, steps: int = 300, *, validation: bool = True) -> None:
    generator = np.random.default_rng(0)
    lines = ["step,epoch,train/loss,train/grad_norm,lr,val/loss,val/perplexity"]
    for step in range(1, steps + 1):
        loss = 0.3 + 2.2 * math.exp(-step / 40) + 0.12 * generator.random()
        rate = 1e-3 * min(step / 30, 1) * (1 - step / (steps + 1))
        lines.append(f"{step},{step / steps:.4f},{loss:.5f},1.0,{rate:.3g},,")
        if validation and step % 50 == 0:
            lines.append(f"{step},{step / steps:.4f},,,,{0.4 + 2 * math.exp(-step / 40):.5f},1.5")
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")


def write_config(run: Path, config: dict[str, Any], overrides: list[str]) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (run / "overrides.yaml").write_text(yaml.safe_dump(overrides))


EVENTS = [
    {
        "time": "2026-11-22T08:00:06+00:00",
        "level": "info",
        "code": "data_ready",
        "message": "Data are ready.",
    },
    {
        "time": "2026-11-22T08:03:00+00:00",
        "level": "warn",
        "code": "loss_spike",
        "message": "The loss rose to 2.10.",
        "evidence": {"step": 140, "loss": 2.1},
        "advice": "Lower optimizer.lr.",
    },
]


def write_run(outputs: Path, **changes: Any) -> Path:
    run = outputs / "trec" / "ab12cd34"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record(**changes)))
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    config = {
        "model": {"name": "smollm2"},
        "optimizer": {"lr": 0.001},
        "batch": {"size": 8, "max_tokens": 2048},
    }
    write_config(run, config, ["optimizer.lr=0.001", "seed=0"])
    write_curves(run)
    write_scores(run, "test", scores(0.9, seed=1))
    write_scores(run, "base", scores(0.1, seed=2))
    return run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a complete run directory; keyword arguments replace entries of run.json."""

    return lambda **changes: write_run(tmp_path, **changes)


@pytest.fixture(scope="module")
def shown_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a complete run, for tests that only look at it."""
    return write_report(write_run(tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """One browser for the tests of a file."""
    with chrome() as page:
        yield page


@pytest.fixture
def synthetic() -> SimpleNamespace:
    """The writers of single parts of a run directory, and the labels they use."""
    return SimpleNamespace(
        LABELS=LABELS, scores=scores, write_scores=write_scores, write_curves=write_curves, write_config=write_config
    )


class Page(HTMLParser):
    """A report as a reader and a browser see it: texts by section, table rows, and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = defaultdict(str)
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        self.scripts: list[str] = []
        self._section = "head"
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag in ("header", "section"):
            self._section = dict(attrs).get("id") or tag
        if tag == "tr":
            self.rows[self._section].append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "td", "th", "tr"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.sections[self._section] += data
            if self._inside in ("td", "th", "small"):
                self.rows[self._section][-1][-1] += data

    def text(self, section: str) -> str:
        """The text of one section, on one line."""
        return " ".join(self.sections[section].split())


@pytest.fixture
def read_page() -> Callable[[Path], Page]:
    """A function that parses a report."""
    return lambda path: Page(path.read_text("utf-8"))
