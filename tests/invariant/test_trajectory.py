"""One training, computed in many ways: every step's loss and gradient norm are the same.

Tolerance: 1e-4 relative for losses, 1e-3 for gradient norms, over 24 steps. Ways differ in the order in which float32
numbers are summed, about 1e-7 relative in a gradient; AdamW divides each weight's step by the size of its own gradient,
so where that is near zero rounding decides the step, and later steps start from slightly other weights (its eps is
1e-4 here, which bounds that). A lost target, or a token that sees another example, changes a step by far more.
Whatever repeats the same sums (an interruption, dropout replayed) must agree bit for bit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import kamerton.model.loss as lean
from support import trajectory
from support.trajectory import STEPS, Trajectory, Way, train
from support.warm import Starter

REFERENCE = Way("padded")
WAYS = [
    Way("padded", max_tokens=120),
    Way("padded", max_tokens=1),
    Way("packed"),
    Way("packed", max_tokens=90),
    Way("tree"),
    Way("tree", max_tokens=80),
    Way("tree", max_tokens=1),
    Way("tree", max_tokens=80, checkpointing=True),
    Way("padded", checkpointing=True),
    Way("tree", max_tokens=80, interrupted_at=(1, 5, 13)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Trajectory:
    return train(REFERENCE, folder)


def assert_same(loss: list[float], norm: list[float], reference: Trajectory) -> None:
    assert len(loss) == STEPS
    assert loss == pytest.approx(reference.loss, rel=1e-4)
    assert norm == pytest.approx(reference.norm, rel=1e-3)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_trajectory_does_not_depend_on_how_it_is_computed(way: Way, reference: Trajectory, folder: Path) -> None:
    result = train(way, folder)
    assert_same(result.loss, result.norm, reference)


def test_training_moves_the_loss(reference: Trajectory) -> None:
    assert reference.loss[-1] < reference.loss[0] - 0.1


@pytest.mark.parametrize("packing", ["padded", "tree"])
def test_the_loss_in_chunks_gives_the_trajectory_of_the_whole(
    packing: str, reference: Trajectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "LOGITS", 259 * 11)
    result = train(Way(packing), folder)  # type: ignore[arg-type]
    assert_same(result.loss, result.norm, reference)


@pytest.mark.slow
@pytest.mark.parametrize("way", [Way("packed", 90, dropout=0.2), Way("padded", 120, dropout=0.2)], ids=str)
def test_dropout_replays_bit_for_bit_straight_or_interrupted(way: Way, folder: Path) -> None:
    straight = train(way, folder)
    again = train(way, folder)
    stopped = train(Way(way.packing, way.max_tokens, dropout=way.dropout, interrupted_at=(3, 11)), folder)
    for other in (again, stopped):
        assert other.loss == straight.loss
        assert other.norm == straight.norm
        assert torch.equal(other.weights, straight.weights)


def test_an_interruption_changes_no_bit(folder: Path) -> None:
    straight = train(Way("tree", 80), folder)
    stopped = train(Way("tree", 80, interrupted_at=(1, 5, 13)), folder)
    assert stopped.loss == straight.loss
    assert torch.equal(stopped.weights, straight.weights)


@pytest.mark.slow
def test_two_ranks_give_the_trajectory_of_one(reference: Trajectory, tmp_path: Path, warm: Starter) -> None:
    """Real processes over gloo, with steps whose examples do not divide evenly."""
    target = tmp_path / "found.json"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    path = os.pathsep.join([str(Path(trajectory.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    warm.finish(*launcher, str(Path(trajectory.__file__)), str(target), env={**os.environ, "PYTHONPATH": path})
    for result in json.loads(target.read_text()).values():
        assert_same(result["loss"], result["norm"], reference)
