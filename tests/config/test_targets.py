"""Targets: only allowed names and valid arguments; all faults are reported before anything is built."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kamerton.config.check import check_values
from kamerton.config.compose import compose_values
from kamerton.config.target_checks import check_targets
from kamerton.config.targets import instantiate


@pytest.mark.parametrize("entry", ["*", "my_rewards.*", "", ".", "my-rewards."])
def test_an_entry_of_the_list_that_matches_nothing_is_a_fault(entry: str) -> None:
    (fault,) = check_values(compose_values([]) | {"allow_targets": [entry, "my_rewards.", "my_rewards.short"]})
    assert fault.column == "allow_targets"
    assert repr(entry) in fault.message
    assert "'allow_targets=[my_rewards.]'" in fault.fix


# Every name here would do harm, or shows a way around the list.
@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "torch.load",
        "torch.hub.load",
        "torch.optimizers",
        "pytorch_lightning.callbacksevil.X",
        "pickle.loads",
        3,
    ],
)
def test_an_unlisted_target_is_refused_and_never_built(target: Any) -> None:
    (fault,) = check_targets({"callbacks": {"mine": {"_target_": target}}})
    assert fault.code == "config.target"
    assert fault.column == "callbacks.mine._target_"
    with pytest.raises(PermissionError):
        instantiate({"_target_": target})


@pytest.mark.parametrize(
    "target",
    [
        "pytorch_lightning.callbacks.model_checkpoint.shutil.rmtree",
        "torch.optim.optimizer.torch.hub.load",
        "torch.optim.optimizer.torch.load",
        "torch.optim.optimizer.torch.nn.Linear",
        "kamerton.train.callbacks.stop_on_signal",
    ],
)
def test_a_dangerous_name_cannot_hide_behind_an_allowed_prefix(target: str) -> None:
    node = {"_target_": target, "path": "/nowhere"}
    (fault,) = check_targets({"x": node})
    assert "cannot find" in fault.message
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        instantiate(node)


def test_a_nested_target_is_checked_too() -> None:
    node = {"_target_": "pytorch_lightning.Trainer", "strategy": {"_target_": "os.system", "command": "true"}}
    (fault,) = check_targets({"trainer": node})
    assert fault.column == "trainer.strategy._target_"
    with pytest.raises(PermissionError):
        instantiate(node)


def test_an_unknown_argument_names_the_nearest_and_a_wrong_type_is_a_fault() -> None:
    node = {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "val/loss", "patiense": 3, "mode": 7}
    faults = {fault.column: fault for fault in check_targets({"callbacks": {"stop": node}})}
    assert faults["callbacks.stop.patiense"].fix == "did you mean 'patience'?"
    assert "valid string" in faults["callbacks.stop.mode"].message


def test_a_missing_argument_is_a_fault() -> None:
    (fault,) = check_targets({"c": {"_target_": "pytorch_lightning.callbacks.EarlyStopping"}})
    assert fault.column == "c.monitor"


def test_an_unknown_name_is_a_fault() -> None:
    (fault,) = check_targets({"optimizer": {"_target_": "torch.optim.Adamm"}})
    assert "cannot find" in fault.message


def test_users_can_allow_their_own_package() -> None:
    node = {"_target_": "collections.OrderedDict"}
    assert check_targets({"x": node})
    assert check_targets({"x": node}, ["collections."]) == []


@pytest.mark.parametrize("signature", ["prompt, completion", "prompt, completion, *, reference, metadata", ""])
def test_a_reward_that_cannot_be_called_is_a_fault(signature: str, module: Callable[[str, str], None]) -> None:
    name = f"odd_rewards_{len(signature)}"
    good = "def good(prompt, completion, *rest, limit): return 1.0\n"
    module(name, f"def odd({signature}): return 1.0\n{good}")
    (fault,) = check_targets({"reward": {"_target_": f"{name}.odd", "limit": 3}}, [f"{name}."])
    assert (fault.code, fault.column) == ("config.target", "reward._target_")
    assert "odd(prompt, completion, reference, metadata)" in fault.fix
    assert check_targets({"reward": {"_target_": f"{name}.good", "limit": 3}}, [f"{name}."]) == []


@pytest.mark.parametrize(
    "body", ["async def odd{0}: return 1.0", "def odd{0}: yield 1.0", "async def odd{0}: yield 1.0"]
)
def test_a_reward_that_a_call_does_not_run_is_a_fault(body: str, module: Callable[[str, str], None]) -> None:
    name = f"lazy_rewards_{len(body)}"
    module(name, body.format("(prompt, completion, reference, metadata)"))
    (fault,) = check_targets({"reward": {"_target_": f"{name}.odd"}}, [f"{name}."])
    assert (fault.code, fault.column) == ("config.target", "reward._target_")
    assert "returns no number" in fault.message


@pytest.mark.parametrize("signature", ["", "*, table"])
def test_a_metric_that_cannot_be_called_is_a_fault(signature: str, module: Callable[[str, str], None]) -> None:
    name = f"odd_metrics_{len(signature)}"
    module(name, f"def odd({signature}): return 1.0\ndef good(table, *, least): return 1.0")
    (fault,) = check_targets({"metrics": {"mine": {"_target_": f"{name}.odd", "least": 3}}}, [f"{name}."])
    assert (fault.code, fault.column) == ("config.target", "metrics.mine._target_")
    assert "odd(table)" in fault.fix
    assert check_targets({"metrics": {"mine": {"_target_": f"{name}.good", "least": 3}}}, [f"{name}."]) == []


def test_arguments_of_metrics_are_checked_by_their_types(module: Callable[[str, str], None]) -> None:
    annotated = "from __future__ import annotations\ndef share(table: object, least: int = 1) -> float: return 1.0"
    module("typed_metrics", annotated)
    node = {"_target_": "typed_metrics.share", "least": "few", "most": 3}
    faults = {fault.column: fault for fault in check_targets({"metrics": {"mine": node}}, ["typed_metrics."])}
    assert set(faults) == {"metrics.mine.least", "metrics.mine.most"}
    assert "valid integer" in faults["metrics.mine.least"].message


@pytest.mark.parametrize(
    ("code", "words"),
    [("def odd(:", "SyntaxError"), ("1 / 0", "ZeroDivisionError"), ("import sys; sys.exit(0)", "SystemExit: 0")],
)
def test_a_module_that_fails_when_it_is_imported_is_a_fault(
    code: str, words: str, module: Callable[[str, str], None]
) -> None:
    module("failing_rewards", code)
    for section in ("reward", "metrics"):
        (fault,) = check_targets({section: {"mine": {"_target_": "failing_rewards.odd"}}}, ["failing_rewards."])
        assert (fault.code, fault.column) == ("config.target", f"{section}.mine._target_")
        assert words in fault.message
        assert "python -c 'import failing_rewards'" in fault.fix


def test_arguments_of_rewards_are_checked_by_their_types() -> None:
    node = {"_target_": "kamerton.objective.rewards.length", "most": "abc", "unit": "lines"}
    faults = {fault.column: fault for fault in check_targets({"reward": {"length": node}})}
    assert set(faults) == {"reward.length.most", "reward.length.unit"}
    assert "valid integer" in faults["reward.length.most"].message
    for name, option, value in (
        ("length", "most", -1),
        ("number", "tolerance", -0.5),
        ("number", "tolerance", math.nan),
    ):
        node = {"_target_": f"kamerton.objective.rewards.{name}", "most": 1, option: value}
        node = node if name == "length" else {key: node[key] for key in ("_target_", option)}
        (fault,) = check_targets({"reward": {name: node}})
        assert fault.column == f"reward.{name}.{option}"


def test_the_fix_of_a_foreign_target_trusts_its_package() -> None:
    (fault,) = check_targets({"reward": {"_target_": "my_rewards.short"}})
    assert "'allow_targets=[my_rewards.]'" in fault.fix


def test_partial_builds_later() -> None:
    build = instantiate({"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5})
    assert build([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] == 0.5
