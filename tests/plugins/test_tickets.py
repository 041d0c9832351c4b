"""Workers that poll, race, die and restart in any order: each requested trial finishes once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from hydra_plugins.kamerton._tickets import MAX_KILLS, Step, next_step, outcome, retry, ticket, valid_trials


@dataclass
class World:
    """A storage in small: numbers are given and tickets are claimed one at a time, all else may be seen late."""

    trials: list[FrozenTrial] = field(default_factory=list)

    def add(self, trial: FrozenTrial) -> None:
        trial.number = len(self.trials)
        self.trials.append(trial)

    def seen(self) -> list[FrozenTrial]:
        shown = []
        for trial in self.trials:
            same = create_trial(state=TrialState.WAITING, user_attrs=trial.user_attrs, system_attrs=trial.system_attrs)
            same.number, same.state = trial.number, trial.state
            shown.append(same)
        return shown

    def claim(self, number: int) -> bool:
        if self.trials[number].state != TrialState.WAITING:
            return False
        self.trials[number].state = TrialState.RUNNING
        return True

    def end(self, number: int, how: str) -> None:
        trial = self.trials[number]
        trial.user_attrs["outcome"] = how
        trial.state = TrialState.COMPLETE if how == "complete" else TrialState.FAIL
        trial.values = [0.0] if how == "complete" else None


@dataclass
class Worker:
    """Does one step at a time, so that others can interleave: poll, act, finish its trial, die."""

    world: World
    total: int
    step: Step | None = None
    runs: int | None = None

    def turn(self, ending: str) -> bool:
        """One thing; whether there is more to do."""
        if self.runs is not None:
            self.world.end(self.runs, ending)
            self.runs = None
        elif self.step is None:
            self.step = next_step(self.world.seen(), self.total)
            return bool(self.step.claims or self.step.adds)
        else:
            step, self.step = self.step, None
            for trial in step.adds:
                self.world.add(trial)
            self.runs = next((trial.number for trial in step.claims if self.world.claim(trial.number)), None)
        return True

    def die(self) -> None:
        """All that it knew is gone; its trial is found dead."""
        if self.runs is not None:
            self.world.end(self.runs, "killed")
        self.runs = self.step = None


turns = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["go", "go", "go", "die", "interrupt"])), max_size=60)


@settings(max_examples=200, deadline=None)
@given(total=st.integers(1, 5), started=st.integers(0, 2), turns=turns)
def test_each_trial_ends_once_whatever_the_order(total: int, started: int, turns: list[tuple[int, str]]) -> None:
    world = World()
    for number in range(started):
        for _ in range(2):  # two workers begin together
            world.add(ticket({"x": number}))
    crew = [Worker(world, total) for _ in range(4)]
    for who, what in turns:
        if what == "die":
            crew[who].die()
        else:
            crew[who].turn("interrupted" if what == "interrupt" else "complete")
    for item in crew:
        item.die()
    while crew[0].turn("complete"):
        pass

    ends = Counter(trial.system_attrs.get("failed_trial", trial.number) for trial in world.trials if is_over(trial))
    ran = [trial for trial in valid_trials(world.trials, total) if "failed_trial" not in trial.system_attrs]
    assert len(ran) == total
    given_up = {number for number, deaths in kills(world).items() if deaths >= MAX_KILLS}
    assert set(ends) == {trial.number for trial in ran} - given_up
    assert set(ends.values()) <= {1}
    assert not any(trial.state == TrialState.RUNNING for trial in world.trials)


def is_over(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE


def kills(world: World) -> Counter[int]:
    dead = [trial for trial in world.trials if outcome(trial) == "killed"]
    return Counter(trial.system_attrs.get("failed_trial", trial.number) for trial in dead)


def test_racing_workers_try_each_point_of_a_grid_once() -> None:
    world, points = World(), [{"x": number} for number in range(4)]
    world.add(ticket({"x": 2}))
    looks = [next_step(world.seen(), 9, points) for _ in range(2)]
    for step in looks:
        for trial in step.claims:
            if world.claim(trial.number):
                world.end(trial.number, "complete")
    for _ in range(20):
        steps = [next_step(world.seen(), 9, points) for _ in range(2)]
        for step in steps:
            for trial in step.adds:
                world.add(trial)
            for trial in step.claims[:1]:
                if world.claim(trial.number):
                    world.end(trial.number, "complete")
    ran = [trial.system_attrs["fixed_params"]["x"] for trial in world.trials if is_over(trial)]
    assert ran == [2, 0, 1, 3]
    step = next_step(world.seen(), 9, points)
    assert not step.claims
    assert not step.adds


def test_a_larger_number_of_trials_continues_the_study() -> None:
    world = World()
    for total in (2, 2, 5):
        worker = Worker(world, total)
        while worker.turn("complete"):
            pass
        assert len(world.trials) == total


def test_a_trial_that_always_crashes_is_abandoned() -> None:
    world = World()
    worker = Worker(world, 2)
    while worker.turn("killed"):
        pass
    assert [outcome(trial) for trial in world.trials] == ["killed"] * 2 * MAX_KILLS


def test_a_retry_keeps_what_was_suggested_and_reported_but_no_constraint() -> None:
    dead = create_trial(
        state=TrialState.FAIL,
        user_attrs={"outcome": "interrupted", "error": "x", "mine": 1},
        system_attrs={"grid_id": 3, "constraints:size": 1.0},
        intermediate_values={0: 0.5},
    )
    dead.number = 4
    first = retry(dead)
    assert first.system_attrs == {"grid_id": 3, "failed_trial": 4, "retry_history": [4]}
    assert first.intermediate_values == {0: 0.5}
    assert first.user_attrs == {"mine": 1, "outcome": "killed"}
    first.number = 7
    assert retry(first).system_attrs == {"grid_id": 3, "failed_trial": 4, "retry_history": [4, 7]}
