"""Log-probabilities by the reference: those of each completion alone, computed once for the same model and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.fuse import fuse
from kamerton.model.tiny import tiny_model
from kamerton.plan.packing import Packing
from kamerton.train import reference
from kamerton.train.reference import reference_logprobs, weights_fingerprint
from support.pairs import Groups

DATA = Groups(5)


def logprobs(cache: Path, fingerprint: str = "data", model: Any = None, packing: Packing = "tree") -> np.ndarray:
    model = tiny_model() if model is None else model
    if packing != "padded":
        register_attention()
        model.set_attn_implementation(ATTENTION)
    fingerprint = f"{weights_fingerprint(model)} {fingerprint}"
    return reference_logprobs(model, DATA, fingerprint, cache=cache, max_tokens=90, packing=packing, pad=0)


def forbid_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "predict", lambda *_: pytest.fail("the reference was computed again"))


@pytest.mark.parametrize("packing", ["tree", "packed", "padded"])
def test_they_are_those_of_each_sequence_alone(tmp_path: Path, packing: Packing) -> None:
    model: Any = tiny_model().double()
    expected = []
    for index in range(len(DATA)):
        ids = torch.from_numpy(DATA.tokens(index).astype(np.int64))
        with torch.no_grad():
            every = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        mask = torch.from_numpy(DATA.targets(index)[1:])
        expected.append(float(every[torch.arange(len(ids) - 1), ids[1:]][mask].sum()))
    assert logprobs(tmp_path, packing=packing) == pytest.approx(np.array(expected), rel=1e-6)


def test_the_same_model_and_data_are_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = logprobs(tmp_path)
    forbid_computation(monkeypatch)
    done: list[int] = []
    fingerprint = f"{weights_fingerprint(tiny_model())} data"
    again = reference_logprobs(
        tiny_model(), DATA, fingerprint, cache=tmp_path, max_tokens=7, packing="padded", pad=0, progress=done.append
    )
    assert (again == first).all()
    assert done == [len(DATA)]


def test_another_model_or_other_data_are_computed(tmp_path: Path) -> None:
    first = logprobs(tmp_path)
    other: Any = tiny_model()
    with torch.no_grad():
        next(other.parameters())[0, 0] += 0.5
    assert (logprobs(tmp_path, model=other) != first).any()
    logprobs(tmp_path, "other data")
    assert len(list((tmp_path / "reference").iterdir())) == 3


def test_the_fingerprint_is_that_of_the_weights_alone() -> None:
    model: Any = tiny_model()
    before = weights_fingerprint(model)
    fuse(model)
    assert weights_fingerprint(model.eval()) == before
    next(model.parameters()).data[0, 0] += 1e-3
    assert weights_fingerprint(model) != before


def test_training_mode_is_kept(tmp_path: Path) -> None:
    model: Any = tiny_model().train()
    logprobs(tmp_path, model=model)
    assert model.training
