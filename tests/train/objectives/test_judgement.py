"""A step on judged completions (KTO) is one gradient, however it is laid out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.fuse import fuse
from kamerton.model.loss import predict
from kamerton.model.tiny import tiny_model
from kamerton.objective.judgements import JudgedRows, JudgementLoss
from kamerton.objective.sequences import Both, Mismatched
from kamerton.plan.packing import Packing
from kamerton.train.batches import MicroBatches
from kamerton.train.data_module import FineTuneData
from kamerton.train.objectives.judgement import JudgementObjective
from support.pairs import Groups

LOSS = JudgementLoss(0.2, desired_weight=1.5, undesired_weight=0.5)
SIZE = 6


def judged(data: Groups) -> JudgedRows:
    """With references so low that the estimated divergence is above 0."""
    draw = np.random.default_rng(3)
    others = Mismatched(data, data.starts)
    return JudgedRows(data.preferences(), -5.9 * others.target_counts + draw.normal(size=len(data)))


def plain_step(data: Groups) -> tuple[Tensor, float, float]:
    """Gradient, loss and divergence of all completions as one step, one sequence at a time in float64."""
    model: Any = tiny_model().double()
    rows, others = judged(data), Mismatched(data, data.starts)

    def logprob(source: Any, index: int) -> Tensor:
        ids = torch.from_numpy(source.tokens(index).astype(np.int64))
        mask = torch.from_numpy(source.targets(index)[1:])
        every = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        return every[torch.arange(len(ids) - 1), ids[1:]][mask].sum()

    step = rows.judge(range(len(data.starts)), range(len(data)))
    with torch.no_grad():
        ratios = [float(logprob(others, i)) - rows.other_reference[i] for i in range(len(data))]
    divergence = max(0.0, float(np.array(ratios) @ step.weight.numpy()))
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(data)):
        gain = LOSS.beta * (logprob(data, i) - rows.rows.reference[i] - divergence)
        value = 1.5 * (1 - torch.sigmoid(gain)) if step.desired[i] else 0.5 * (1 - torch.sigmoid(-gain))
        total = total + step.weight[i] * value
    total.backward()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    return gradient, float(total.detach()), divergence


@pytest.mark.parametrize(
    ("packing", "max_tokens"),
    [("padded", 10**6), ("padded", 1), ("packed", 90), ("tree", 10**6), ("tree", 80)],
)
def test_the_layout_changes_no_result(packing: Packing, max_tokens: int) -> None:
    data = Groups(SIZE)
    gradient, value, divergence = plain_step(data)
    assert divergence > 0
    model = tiny_model()
    if packing != "padded":
        register_attention()
        model.set_attn_implementation(ATTENTION)
    fuse(model)
    rows, others = judged(data), Mismatched(data, data.starts)
    options: dict[str, Any] = {"max_tokens": max_tokens, "packing": packing, "pad": 0}
    module = FineTuneData(data, None, seed=5, batch_size=99, preferences=(rows, None), others=others, **options)
    module.trainer = SimpleNamespace(world_size=1, global_rank=0, strategy=None)  # type: ignore[assignment]
    everything = rows.judge(range(len(data.starts)), range(len(data)))
    objective = JudgementObjective(LOSS, everything)
    batch = module._step(module.plan(0), 0)
    objective.before(model, batch, lambda values: values)
    for index, micro in enumerate(batch.micro_batches):
        objective.loss(predict(model, micro), batch, index).backward()
    computed = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    assert torch.linalg.norm(computed - gradient) <= 1e-5 * torch.linalg.norm(gradient)
    with torch.no_grad():
        for validated in MicroBatches(Both(data, others), **options):
            objective.validate(predict(model, validated.rows), validated)
    training = objective.training_metrics(batch, lambda values: values)
    validation = objective.validation_metrics(lambda values: values)
    for metrics in (training, validation):
        assert float(metrics["loss"]) == pytest.approx(value, rel=1e-5)
        assert float(metrics["kl"]) == pytest.approx(divergence, rel=1e-5)
