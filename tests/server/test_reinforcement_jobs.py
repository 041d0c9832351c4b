"""A reinforcement job from end to end: the `openai` package against `kamerton serve`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server_process import Server
from support.serving import until, upload
from support.warm import Starter

pytestmark = pytest.mark.slow
GRADER: Any = {"type": "text_similarity", "name": "close", "evaluation_metric": "fuzzy_match"}
GRADER |= {"input": "{{sample.output_text}}", "reference": "{{item.reference_answer}} {{item.metadata.unit}}"}
HOW: Any = {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 2, "compute_multiplier": 0.25}


def rows(count: int, word: str = "the") -> bytes:
    """Rows of OpenAI's reinforcement fine-tuning, with names of fields that other rows give a meaning."""
    lines = [
        {
            "messages": [
                {"role": "developer", "content": "Answer briefly."},
                {"role": "user", "content": f"{word} {animal} number {number}"},
            ],
            "reference_answer": number,
            "metadata": {"unit": "cats"},
            "label": "odd",
        }
        for number in range(count)
        for animal in ("cat", "dog")
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, own_cache: Path, warm: Starter) -> Iterator[Server]:
    """A server; nothing that it started is left behind."""
    result = Server(tmp_path_factory.mktemp("server"), warm)
    yield result
    result.clean()


def learn(client: Any, training_file: str, validation_file: str | None = None) -> Any:
    """The job when it has ended."""
    method: Any = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": HOW}}
    files = {"training_file": training_file, "validation_file": validation_file}
    job = client.fine_tuning.jobs.create(model="tiny", method=method, **files)
    return until(client, job.id, "succeeded", "failed")


def test_from_prompts_to_an_answer(server: Server) -> None:
    client = server.client()
    files = upload(client, rows(4), "prompts.jsonl"), upload(client, rows(1, "a"), "held out.jsonl")
    job = learn(client, *files)
    assert (job.status, job.error) == ("succeeded", None)
    assert job.method.reinforcement.grader.to_dict() == GRADER
    steps = [event.data for event in client.fine_tuning.jobs.list_events(job.id) if event.type == "metrics"]
    assert len(steps) == 2
    assert all(0 <= step["train_mean_reward"] <= 1 for step in steps)
    assert sum("full_valid_mean_reward" in step for step in steps) == 1
    samples = (server.root / "ann" / job.id / "samples.jsonl").read_text().splitlines()
    assert len(samples) == 8 * 2  # of each prompt, compute_multiplier x 8
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.metrics.to_dict()["full_valid_mean_reward"] == steps[0]["full_valid_mean_reward"]
    asked: Any = [{"role": "user", "content": "the cat number 3"}]
    answer = client.chat.completions.create(model=job.fine_tuned_model, messages=asked, max_tokens=8)
    assert answer.choices[0].message.content is not None


def test_rows_that_cannot_be_graded_fail_the_job_by_their_lines(server: Server) -> None:
    client = server.client()
    asked = {"role": "user", "content": "how many?"}
    lacking = {"messages": [asked], "metadata": {"unit": "cats"}}
    answered = {"messages": [asked, {"role": "assistant", "content": "7"}], "reference_answer": 7}
    broken = "".join(json.dumps(row) + "\n" for row in (lacking, {**answered, "metadata": {"unit": "cats"}}))
    job = learn(client, upload(client, rows(4) + broken.encode(), "mixed.jsonl"))
    assert (job.status, job.error.code, job.error.param) == ("failed", "invalid_training_file", "training_file")
    assert "mixed.jsonl:9:reference_answer: the row has no reference_answer" in job.error.message
    assert "mixed.jsonl:10: the row ends with an answer of the assistant" in job.error.message
