"""A step on preferences is one gradient, however its completions are laid out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.fuse import fuse
from kamerton.model.loss import predict
from kamerton.model.tiny import tiny_model
from kamerton.objective.pair_loss import PairLoss
from kamerton.plan.packing import Packing
from kamerton.train.batches import MicroBatches
from kamerton.train.data_module import FineTuneData
from kamerton.train.objectives.preference import PreferenceObjective
from support.pairs import Groups

LOSSES = {
    "dpo": PairLoss("dpo", 0.1),
    "dpo smoothed, with SFT": PairLoss("dpo", 0.3, label_smoothing=0.2, sft_weight=0.5),
    "ipo": PairLoss("ipo", 0.1),
    "simpo": PairLoss("simpo", 2.0, margin=1.0),
    "orpo": PairLoss("orpo", 0.1, sft_weight=1.0),
    "apo_zero": PairLoss("apo_zero", 0.1),
    "apo_down": PairLoss("apo_down", 0.1),
}
LAYOUTS: list[tuple[Packing, int]] = [
    ("padded", 10**6),
    ("padded", 150),
    ("padded", 1),
    ("packed", 10**6),
    ("packed", 90),
    ("packed", 1),
    ("tree", 10**6),
    ("tree", 80),
    ("tree", 1),
]


def plain_loss(name: str, loss: PairLoss, chosen: Tensor, rejected: Tensor, ref: Any, size: Any) -> Tensor:
    """The loss of one pair, from the papers' formulas, in float64."""
    (c, r), (ref_c, ref_r), (n_c, n_r) = (chosen, rejected), ref, size
    sft = -loss.sft_weight * c / n_c
    if loss.name == "dpo":
        margin = loss.beta * ((c - ref_c) - (r - ref_r))
        smooth = loss.label_smoothing
        return sft - (1 - smooth) * logsigmoid(margin) - smooth * logsigmoid(-margin)
    if loss.name == "ipo":
        return sft + ((c - ref_c) / n_c - (r - ref_r) / n_r - 1 / (2 * loss.beta)) ** 2
    if loss.name == "simpo":
        return sft - logsigmoid(loss.beta * c / n_c - loss.beta * r / n_r - loss.margin)
    if loss.name == "orpo":
        odds_c, odds_r = ((x / n).exp() / (1 - (x / n).exp()) for x, n in ((c, n_c), (r, n_r)))
        return sft - loss.beta * logsigmoid((odds_c / odds_r).log())
    if loss.name == "apo_zero":
        return sft + 1 - torch.sigmoid(loss.beta * (c - ref_c)) + torch.sigmoid(loss.beta * (r - ref_r))
    margin = loss.beta * ((c - ref_c) - (r - ref_r))
    return sft + torch.sigmoid(loss.beta * (c - ref_c)) + 1 - torch.sigmoid(margin)


def plain_step(loss: PairLoss, data: Groups) -> tuple[Tensor, float, float]:
    """Gradient, loss and accuracy of all groups as one step: one sequence at a time, unshared, in float64."""
    model: Any = tiny_model().double()
    rows = data.preferences()
    logprobs = []
    for index in range(len(data)):
        ids = torch.from_numpy(data.tokens(index).astype(np.int64))
        mask = torch.from_numpy(data.targets(index)[1:])
        every = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        logprobs.append(every[torch.arange(len(ids) - 1), ids[1:]][mask].sum())
    total, right = torch.zeros((), dtype=torch.float64), 0.0
    for number, start in enumerate(data.starts.tolist()):
        end = data.starts[number + 1] if number + 1 < len(data.starts) else len(data)
        pairs = [(i, j) for i in range(start, end) for j in range(start, end) if data.scores[i] > data.scores[j]]
        share = rows.weights[number] / rows.weights.sum() / len(pairs)
        for i, j in pairs:
            ref = rows.reference[i], rows.reference[j]
            size = data.target_counts[i], data.target_counts[j]
            total = total + share * plain_loss(loss.name, loss, logprobs[i], logprobs[j], ref, size)
            rewards = [float(logprobs[k].detach() - rows.reference[k]) for k in (i, j)]
            if loss.name in ("simpo", "orpo"):  # per token, without a reference
                rewards = [float(logprobs[k].detach()) / data.target_counts[k] for k in (i, j)]
            right += share * (rewards[0] > rewards[1])
    total.backward()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    return gradient, float(total.detach()), right


def step(
    loss: PairLoss, data: Groups, packing: Packing, max_tokens: int, ranks: int = 1
) -> tuple[Tensor, dict[str, float], dict[str, float]]:
    """Gradient and training metrics of one step on all groups, and the metrics of a validation on the same."""
    model = tiny_model()
    if packing != "padded":
        register_attention()
        model.set_attn_implementation(ATTENTION)
    fuse(model)
    rows = data.preferences()
    everything = rows.compare(range(len(rows.starts)), range(len(data)))
    options: dict[str, Any] = {"max_tokens": max_tokens, "packing": packing, "pad": 0}
    module = FineTuneData(data, None, seed=5, batch_size=99, preferences=(rows, None), **options)
    metrics: dict[str, float] = {}
    objective = PreferenceObjective(loss, everything)
    for rank in range(ranks):
        module.trainer = SimpleNamespace(world_size=ranks, global_rank=rank, strategy=None)  # type: ignore[assignment]
        batch = module._step(module.plan(0), 0)
        objective.before(model, batch, lambda values: values)
        for index, micro in enumerate(batch.micro_batches):
            objective.loss(predict(model, micro), batch, index).backward()
        for name, value in objective.training_metrics(batch, lambda values: values).items():
            metrics[name] = metrics.get(name, 0.0) + float(value)
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    with torch.no_grad():
        for validated in MicroBatches(data, **options):
            objective.validate(predict(model, validated.rows), validated)
    validation = objective.validation_metrics(lambda values: values)
    return gradient, metrics, {name: float(value) for name, value in validation.items()}


def assert_same(result: tuple[Tensor, dict[str, float], dict[str, float]], plain: tuple[Tensor, float, float]) -> None:
    gradient, value, accuracy = plain
    assert torch.linalg.norm(result[0] - gradient) <= 1e-5 * torch.linalg.norm(gradient)
    for metrics in result[1:]:
        assert metrics["loss"] == pytest.approx(value, rel=1e-5)
        assert metrics["preference_accuracy"] == pytest.approx(accuracy, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_those_of_one_completion_at_a_time(name: str) -> None:
    loss, data = LOSSES[name], Groups(4)
    assert_same(step(loss, data, "tree", 80), plain_step(loss, data))


def test_the_layout_changes_no_result() -> None:
    loss, data = LOSSES["dpo smoothed, with SFT"], Groups(6)
    plain = plain_step(loss, data)
    for packing, max_tokens in LAYOUTS:
        assert_same(step(loss, data, packing, max_tokens), plain)


@pytest.mark.parametrize(("packing", "max_tokens"), [("tree", 80), ("packed", 1), ("padded", 10**6)])
def test_ranks_divide_a_step_without_changing_it(packing: Packing, max_tokens: int) -> None:
    loss, data = LOSSES["dpo"], Groups(6)
    assert_same(step(loss, data, packing, max_tokens, ranks=2), plain_step(loss, data))
