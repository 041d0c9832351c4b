"""A DPO job from end to end: the `openai` package against `kamerton serve`, and a served DPO run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from support.pairs_files import openai_pairs, pairs
from support.rows import write_jsonl
from support.runs import LEAN
from support.server_process import Server, served
from support.serving import until, upload
from support.strict import strict_client
from support.warm import Starter

pytestmark = pytest.mark.slow
CAT: Any = [{"role": "user", "content": "the cat number 3"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, own_cache: Path, warm: Starter) -> Iterator[Server]:
    """A server; nothing that it started is left behind."""
    result = Server(tmp_path_factory.mktemp("server"), warm)
    yield result
    result.clean()


def test_from_pairs_to_an_answer(server: Server) -> None:
    client = server.client()
    how: Any = {"beta": 0.2, "n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 20}
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=upload(client, openai_pairs(), "pairs.jsonl"),
        validation_file=upload(client, openai_pairs(5, "a"), "held out.jsonl"),
        method={"type": "dpo", "dpo": {"hyperparameters": how}},
    )
    job = until(client, job.id, "succeeded", "failed")
    assert (job.status, job.error) == ("succeeded", None)
    assert job.method.dpo.hyperparameters.to_dict() == how
    events = list(client.fine_tuning.jobs.list_events(job.id))
    assert events[0].message == "The job has successfully completed"
    steps = [event.data for event in events if event.type == "metrics"]
    assert len(steps) == -(-60 // 8) * 3
    first, last = steps[-1], steps[0]
    assert first["train_loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: the model is the reference
    assert last["train_loss"] < 0.5
    assert last["train_preference_accuracy"] > 0.9
    assert last["train_margin"] > first["train_margin"]
    validated = next(data for data in steps if "full_valid_loss" in data)
    assert 0 <= validated["full_valid_preference_accuracy"] <= 1
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.metrics.full_valid_loss < 0.7
    for name in (job.fine_tuned_model, checkpoint.fine_tuned_model_checkpoint):
        answer = client.chat.completions.create(model=name, messages=CAT, max_tokens=8, temperature=0)
        assert answer.choices[0].message.content is not None


def test_a_file_of_chats_fails_a_dpo_job_by_its_lines(server: Server) -> None:
    client = server.client()
    broken = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    file = upload(client, openai_pairs(3) + broken, "mixed.jsonl")
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file, method={"type": "dpo"})
    failed = until(client, job.id, "failed", "succeeded")
    assert (failed.status, failed.error.code) == ("failed", "invalid_training_file")
    assert "mixed.jsonl:7" in failed.error.message


def test_a_served_dpo_run_answers_as_its_evaluation(tmp_path: Path, warm: Starter) -> None:
    data = write_jsonl(tmp_path / "pairs.jsonl", pairs())
    outputs = tmp_path / "outputs"
    words = [*LEAN, "objective=dpo", f"data.path={data}", f"paths.outputs={outputs}", "run_id=preferred"]
    how = ["model.export=adapter", "optimizer.lr=0.01", "trainer.max_epochs=2", "data.near_duplicates=null"]
    assert main(["train", *words, *how]) == 0
    run = outputs / "jsonl" / "preferred"
    assert json.loads((run / "run.json").read_text())["objective"] == "dpo"
    with served(warm, tmp_path, "--no-auth", "--models", "tiny", "--run", str(run)) as address:
        client = strict_client(f"{address}/v1", "none")
        assert [model.id for model in client.models.list()] == ["tiny", "preferred"]
        answers = [
            client.chat.completions.create(model=name, messages=CAT, max_tokens=8, temperature=0).choices[0].message
            for name in ("tiny", "preferred")
        ]
    assert answers[0].content != answers[1].content
