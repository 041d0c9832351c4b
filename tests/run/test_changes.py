"""What may differ when a run is resumed, and how differences are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kamerton.run.changes import changed_faults, differences

RUN = Path("outputs/sums/one")


def reward(*names: str, **options: Any) -> dict[str, Any]:
    functions = {name: {"_target_": f"kamerton.objective.rewards.{name}", "weight": 1.0} for name in names}
    return {"reward": functions, **options}


def test_another_reward_is_one_fault_with_the_reward_to_give() -> None:
    (fault,) = changed_faults(RUN, differences(reward("exact_match"), reward("number")))
    assert fault.message == "run one was started with the reward exact_match, now it is number"
    assert "put exact_match in place of number in reward to resume it" in fault.fix
    (fault,) = changed_faults(RUN, differences(reward("regex", "length"), reward("number", "regex")))
    assert fault.message == "run one was started with the reward length, now it is number"
    (fault,) = changed_faults(RUN, differences(reward("regex"), reward("number", "regex")))
    assert (fault.message, fault.fix[:28]) == (
        "run one was started without the reward number",
        "leave number out of reward t",
    )
    (fault,) = changed_faults(RUN, differences(reward("regex", "number"), reward("regex")))
    assert (fault.message, fault.fix[:20]) == (
        "run one was started with the reward number as well",
        "add number to reward",
    )


def test_other_changes_are_reported_beside_another_reward() -> None:
    changes = differences(reward("exact_match", seed=1), reward("number", seed=2))
    assert [fault.column for fault in changed_faults(RUN, changes)] == ["reward", "seed"]


def test_an_option_of_the_same_reward_is_named() -> None:
    before, now = reward("number"), reward("number")
    now["reward"]["number"]["weight"] = 2.0
    (fault,) = changed_faults(RUN, differences(before, now))
    assert fault.column == "reward.number.weight"
    assert "give reward.number.weight=1.0" in fault.fix
