"""Options of hosted models: faults before anything is sent, and no option is ignored silently."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.cli import main
from kamerton.config.faults import check_overrides
from kamerton.config.hosted import unused
from kamerton.endpoint import Endpoint, endpoint_faults, untrusted, untrusted_key
from kamerton.errors import UserError
from kamerton.hosted.check import preflight_faults
from kamerton.jobs.config import compose_job, model_overrides

HOSTED = ["model=openai", "model.name=gpt-3.5-turbo", "data=jsonl", "data.near_duplicates=null"]


def faults(*overrides: str) -> list[str]:
    return [f"{fault.code} {fault.column}" for fault in check_overrides(overrides)]


@pytest.mark.parametrize(
    ("typed", "column"),
    [
        ("cv.folds=3", "cv.folds"),
        ("sweep=lr_batch", "sweep"),
        ("trainer.max_steps=3", "trainer.max_steps"),
        ("trainer.limit_train_batches=0.5", "trainer.limit_train_batches"),
        ("score.mode=reference", "score.mode"),
        ("data.balance=weights", "data.balance"),
    ],
)
def test_what_a_hosted_model_cannot_do_is_a_fault(typed: str, column: str) -> None:
    assert f"hosted.option {column}" in faults(*HOSTED, "data.path=x", typed)


def test_options_of_hosted_models_do_nothing_for_others() -> None:
    assert "hosted.option model.max_cost" in faults("model=tiny", "model.max_cost=3")
    assert not faults("model=tiny")


def test_typed_options_that_do_nothing_are_named_and_no_others() -> None:
    used = ["model=openai", "model.name=x", "model.price.input=1", "trainer.max_epochs=2", "batch.size=8", "seed=1"]
    used += ["data=csv", "data.path=x", "split.seed=1", "score.max_new_tokens=9", "run_id=a", "paths.outputs=o"]
    used += ["callbacks.progress_bar=null", "callbacks.model_summary=null", "metrics.own._target_=x"]
    ignored = ["adapter.r=4", "optimizer.betas=[0.9,0.99]", "batch.cut=packed", "model.dtype=bfloat16", "trainer=gpu"]
    ignored += [
        "data.max_length=9",
        "scheduler.warmup_steps=3",
        "callbacks.progress_bar=x",
        "monitor.stop_on=[plateau]",
    ]
    assert unused([*used, *ignored]) == ignored


def test_a_dry_run_sends_nothing_and_prints_the_estimated_cost(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")  # no server there
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefghijklmnop")
    price = ["model.price.training=8", "model.price.input=3", "model.price.output=6"]
    words = ["train", "model=openai", "model.name=mine", "data=jsonl", f"data.path={animals}", *price]
    words += [f"paths.outputs={tmp_path / 'outputs'}", "data.near_duplicates=null"]
    assert main([*words, "model.dry_run=true", "adapter.r=4"]) == 0
    output = capsys.readouterr().out
    assert "counted by UTF-8 bytes / 4" in output
    assert "cost   training $0.0" in output
    assert "by model.price" in output
    assert "unused a hosted model cannot use adapter.r=4" in output
    assert not (tmp_path / "outputs").exists()
    assert main([*words, "model.max_cost=0.001"]) == 2
    assert "more than model.max_cost=0.001" in capsys.readouterr().err
    with pytest.raises(UserError, match="there is no job"):
        compose_job([*words[1:], "model.dry_run=true"])


def test_all_faults_are_reported_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    file = tmp_path / "few.jsonl"
    file.write_text("".join(f'{{"prompt": "number {n}", "completion": "{n * n}"}}\n' for n in range(12)))
    result = check_overrides([*HOSTED, "model.name=gpt-99", f"data.path={file}"], preflight=preflight_faults)
    assert {"hosted.key", "hosted.few"} <= {fault.code for fault in result}
    assert "OPENAI_API_KEY" in next(fault.fix for fault in result if fault.code == "hosted.key")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_unset_key_is_reported_before_anything_is_written(
    command: str, animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert main([command, *HOSTED, f"data.path={animals}", f"paths.outputs={tmp_path / 'outputs'}"]) == 2
    output = capsys.readouterr().err
    assert "the environment variable OPENAI_API_KEY is not set" in output
    assert "fix: export OPENAI_API_KEY=" in output
    assert not (tmp_path / "outputs").exists()


def test_the_key_is_sent_to_no_address_that_only_a_folder_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert untrusted(None) is None
    assert untrusted("https://api.openai.com/v1/") is None
    assert untrusted("http://localhost:8000/v1") is None
    assert untrusted("https://evil.example/v1") is not None
    assert untrusted("http://127.0.0.1.evil.example/v1") is not None
    monkeypatch.setenv("OPENAI_BASE_URL", "https://mine.example/v1")
    assert untrusted("https://mine.example/v1") is None


def test_no_variable_is_sent_that_only_a_folder_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert untrusted_key(None) is None
    assert untrusted_key("OPENAI_API_KEY") is None
    fault = untrusted_key("AWS_SECRET_ACCESS_KEY")
    assert fault is not None
    assert fault.fix.endswith('export OPENAI_API_KEY="$AWS_SECRET_ACCESS_KEY"')
    monkeypatch.setenv("OPENAI_API_KEY", "secret")  # as in the fix
    assert untrusted_key("AWS_SECRET_ACCESS_KEY") is None


@pytest.mark.parametrize(("url", "code"), [("host/v1", "hosted.url"), ("http://h:port/v1", "hosted.url")])
def test_an_invalid_address_is_not_used(url: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "k")
    assert [fault.code for fault in endpoint_faults(Endpoint(url, "K"))] == [code]


def test_a_hosted_name_in_python_is_a_hosted_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_overrides("gpt-3.5-turbo")[0] == "model=openai"
    assert model_overrides("tiny") == ["model=tiny"]
    assert model_overrides("Qwen/Qwen3-0.6B")[0] == "model=hub"
