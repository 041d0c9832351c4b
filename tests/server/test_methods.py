"""Training methods of a job request: what the `openai` package sends, what the job answers, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import yaml

from kamerton.jobs.store import WORKER
from kamerton.locks import acquire
from kamerton.run.directory import RunDirectory
from kamerton.server.routes import start
from support.pairs_files import openai_pairs
from support.serving import TOKENS, Served, serving, upload
from support.strict import strict_client

CHECK = {"type": "string_check", "name": "exact", "operation": "eq"}
CHECK |= {"input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
LEARN_IN = "method.reinforcement"


def learn(**changes: Any) -> Any:
    """The method with other settings, or hyperparameters."""
    own = {key: changes.pop(key) for key in ("grader", "response_format") if key in changes}
    hyperparameters = {"hyperparameters": changes} if changes else {}
    return {"type": "reinforcement", "reinforcement": {"grader": CHECK, **own, **hyperparameters}}


@pytest.fixture(scope="module")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose jobs are queued, and never begin."""
    patch, workers = pytest.MonkeyPatch(), []

    def start_worker(run: RunDirectory, overrides: list[str], *_: object) -> None:
        workers.append(acquire(run.path / WORKER))  # it is alive
        run.set_state("queued", job={"overrides": overrides, "cwd": "/", "limit": None, "queued": 0})
        run.release()

    patch.setattr(start, "start_worker", start_worker)
    with serving(tmp_path_factory.mktemp("queued")) as result:
        yield result
    for lock in workers:
        assert lock is not None
        lock.close()
    patch.undo()


@pytest.fixture(scope="module")
def file(queued: Served) -> str:
    return upload(queued.client(), openai_pairs(), "pairs.jsonl")


def test_a_dpo_job_has_its_method_and_its_run_the_objective(queued: Served, file: str) -> None:
    client = strict_client(f"{queued.url}/v1", TOKENS[0][1])
    given: Any = {"beta": 0.25, "batch_size": 8, "learning_rate_multiplier": 2, "n_epochs": 4}
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": given}}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file, method=method)
    assert job.method is not None
    assert job.method.type == "dpo"
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.to_dict() == given
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    config = yaml.safe_load((queued.settings.root / "ann" / job.id / "config.yaml").read_text())
    assert (config["objective"]["name"], config["objective"]["beta"]) == ("dpo", 0.25)
    assert (config["data"]["rows"], config["batch"]["size"], config["trainer"]["max_epochs"]) == ("preferences", 8, 4)


@pytest.mark.parametrize("method", [{"type": "dpo"}, {"type": "dpo", "dpo": {"hyperparameters": {"beta": "auto"}}}])
def test_auto_is_answered_with_the_values_that_are_used(queued: Served, file: str, method: Any) -> None:
    job = queued.client().fine_tuning.jobs.create(model="tiny", training_file=file, method=method)
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    values = job.method.dpo.hyperparameters.to_dict()
    assert values == {"n_epochs": 3, "batch_size": 16, "learning_rate_multiplier": 1.0, "beta": 0.1}


@pytest.mark.parametrize(
    ("method", "param", "words"),
    [
        ({"type": "ppo"}, "method.type", "'supervised', 'dpo' or 'reinforcement'"),
        ({"type": "dpo", "supervised": {}}, "method", "the type is dpo, and the settings are of supervised"),
        ({"type": "supervised", "dpo": {}}, "method", "the type is supervised, and the settings are of dpo"),
        ({"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}, "method.dpo.hyperparameters.beta", "greater than 0"),
        ({"type": "dpo", "dpo": {"hyperparameters": {"gamma": 1}}}, "method.dpo.hyperparameters.gamma", "not known"),
        ({"type": "reinforcement"}, "method.reinforcement", "is required"),
        ({"type": "reinforcement", "reinforcement": {}}, "method.reinforcement.grader", "is required"),
        (
            {"type": "reinforcement", "reinforcement": {"grader": {"type": "score_model", "name": "j", "model": "x"}}},
            "method.reinforcement.grader.type",
            "the type score_model is not supported: it needs another model",
        ),
        (
            {"type": "reinforcement", "reinforcement": {"grader": {**CHECK, "operation": "regex"}}},
            "method.reinforcement.grader.operation",
            "operation regex is unknown; choose one of eq, ne, like, ilike",
        ),
        (learn(grader={**CHECK, "weight": 1}), f"{LEARN_IN}.grader.weight", "a grader string_check has no weight"),
        (learn(grader={**CHECK, "type": "python"}), f"{LEARN_IN}.grader.type", "it runs code of the request"),
        (learn(response_format={}), f"{LEARN_IN}.response_format", "is not known here"),
        (learn(eval_samples=2), f"{LEARN_IN}.hyperparameters.eval_samples", "'auto' or 1"),
        (learn(reasoning_effort="high"), f"{LEARN_IN}.hyperparameters.reasoning_effort", "'default'"),
        (learn(compute_multiplier=9), f"{LEARN_IN}.hyperparameters.compute_multiplier", "less than or equal to 8"),
        (learn(eval_interval=3), f"{LEARN_IN}.hyperparameters.eval_interval", "nothing without a validation_file"),
        (learn(beta=0.1), f"{LEARN_IN}.hyperparameters.beta", "is not known here"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_parameter(
    queued: Served, file: str, method: Any, param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        queued.client().fine_tuning.jobs.create(model="tiny", training_file=file, method=method)
    assert refused.value.param is not None
    assert refused.value.param.startswith(param)
    assert words in refused.value.message


def test_a_reinforcement_job_generates_and_grades(queued: Served, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "a secret place")
    client = strict_client(f"{queued.url}/v1", TOKENS[0][1])
    grader = {**CHECK, "reference": "${oc.env:HOME} {{item.answer}} {{item.metadata.topic}}"}
    how = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 2, "compute_multiplier": 0.5, "eval_interval": 5}
    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=file, validation_file=file, method=learn(grader=grader, **how)
    )
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    assert job.method is not None
    assert job.method.reinforcement is not None
    assert job.method.reinforcement.hyperparameters is not None
    shown = job.method.reinforcement.hyperparameters.to_dict()
    assert shown == {**how, "eval_samples": 1, "reasoning_effort": "default"}
    assert job.method.reinforcement.grader.to_dict() == grader
    run = queued.settings.root / "ann" / job.id
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["objective"]["name"], config["objective"]["samples"]) == ("grpo", 4)
    assert (config["eval"]["strategy"], config["eval"]["every"]) == ("steps", 5)
    assert (config["data"]["rows"], config["data"]["columns"]["metadata"]) == ("prompts", ["answer", "metadata"])
    assert config["reward"]["grader"]["file"] == str(run / "grader.json")
    assert json.loads((run / "grader.json").read_text()) == grader  # as data, which nothing interpolates
    for name in ("config.yaml", "run.json"):
        assert "a secret place" not in (run / name).read_text()
    assert "oc.env" not in (run / "config.yaml").read_text()


def test_auto_of_reinforcement_is_answered_with_the_values_that_are_used(queued: Served, file: str) -> None:
    job = queued.client().fine_tuning.jobs.create(model="tiny", training_file=file, method=learn(n_epochs="auto"))
    assert job.method is not None
    assert job.method.reinforcement is not None
    assert job.method.reinforcement.hyperparameters is not None
    values = job.method.reinforcement.hyperparameters.to_dict()
    assert values == {
        "n_epochs": 3,
        "batch_size": 16,
        "learning_rate_multiplier": 1.0,
        "compute_multiplier": 1.0,
        "eval_interval": "auto",
        "eval_samples": 1,
        "reasoning_effort": "default",
    }


def test_a_wrong_number_of_epochs_is_named_as_it_was_sent(queued: Served, file: str) -> None:
    with pytest.raises(openai.BadRequestError, match=r"hyperparameters\.n_epochs: input should be greater") as error:
        queued.client().fine_tuning.jobs.create(model="tiny", training_file=file, hyperparameters={"n_epochs": 0})
    assert error.value.param == "hyperparameters.n_epochs"
    assert "constrained" not in str(error.value)


def test_hyperparameters_are_given_once(queued: Served, file: str) -> None:
    with pytest.raises(openai.BadRequestError, match=r"only in method\.dpo"):
        queued.client().fine_tuning.jobs.create(
            model="tiny", training_file=file, method={"type": "dpo"}, hyperparameters={"n_epochs": 1}
        )


def test_a_job_of_an_older_server_is_supervised(queued: Served, file: str) -> None:
    jobs = queued.client().fine_tuning.jobs
    job = jobs.create(model="tiny", training_file=file, hyperparameters={"n_epochs": 2})
    path = queued.settings.root / "ann" / job.id / "run.json"
    path.write_text(path.read_text().replace('"method":', '"former":'))
    assert jobs.retrieve(job.id).method == job.method
