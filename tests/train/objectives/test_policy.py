"""A step on rewards is one update, however its completions are laid out."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kamerton.model.adapter import apply_adapter
from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.fuse import fuse
from kamerton.model.loss import predict
from kamerton.model.tiny import tiny_model
from kamerton.objective.policy import PolicyLoss
from kamerton.plan.packing import Packing
from kamerton.score.generate.batched import Prompt, generate, plan_batches
from kamerton.score.generate.sampling import Decoding
from kamerton.train.batches import StepBatch
from kamerton.train.data_module import FineTuneData
from kamerton.train.layouts import layout
from kamerton.train.objectives.policy import PolicyObjective
from kamerton.train.rollouts import Completion, Rollout
from support.rollouts import Prompts

GRPO = PolicyLoss(kl_weight=0.5, clip=0.1, clip_high=0.15)
RLOO = PolicyLoss("leave_one_out", standardise=False)
LAYOUTS: list[tuple[Packing, int]] = [
    ("padded", 10**6),
    ("padded", 60),
    ("packed", 10**6),
    ("packed", 1),
    ("tree", 10**6),
    ("tree", 60),
    ("tree", 1),
]
RATE, UPDATES = 0.3, 3
Reduced = Callable[[Tensor], Tensor]


def adapted() -> Any:
    """The tiny model with an adapter that has learnt something, so that it differs from the reference."""
    torch.manual_seed(0)
    model = apply_adapter(tiny_model(), kind="lora", r=4)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    return model.eval()


def trained(model: Any) -> list[Tensor]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def descend(model: Any) -> None:
    with torch.no_grad():
        for weight in trained(model):
            assert weight.grad is not None
            weight -= RATE * weight.grad
            weight.grad = None


def flat(model: Any) -> Tensor:
    return torch.cat([weight.detach().flatten().double() for weight in trained(model)])


def plain_logprobs(model: Any, sequence: np.ndarray, prompt: int) -> Tensor:
    ids = torch.from_numpy(sequence.astype(np.int64))
    every = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
    return every[torch.arange(len(ids) - 1), ids[1:]][prompt - 1 :]


def plain_steps(loss: PolicyLoss, data: Prompts) -> tuple[Tensor, dict[str, float]]:
    """The change of the weights by all updates, and the metrics: one sequence at a time, unshared, in float64."""
    model = adapted().double()
    rollout, before = data.roll_out(model, range(len(data)), 0), flat(model)
    tokens = int(rollout.target_counts.sum())
    means = rollout.rewards.mean(1, keepdims=True)
    if loss.baseline == "leave_one_out":
        advantage = (rollout.rewards - means) * 4 / 3
    else:
        deviation = rollout.rewards.std(1, ddof=1, keepdims=True)
        advantage = (rollout.rewards - means) / np.where(deviation > 1e-12, deviation, np.inf)
    old: list[Tensor] = []
    reference: list[Tensor] = []
    metrics = {"loss": 0.0, "kl": 0.0, "entropy": 0.0, "clipped": 0.0}
    for update in range(UPDATES):
        total = torch.zeros((), dtype=torch.float64)
        for index, each in enumerate(rollout.completions):
            policy = plain_logprobs(model, rollout.tokens(index), len(each.prompt))
            if not update:
                old.append(policy.detach())
                with torch.no_grad(), model.disable_adapter():
                    reference.append(plain_logprobs(model, rollout.tokens(index), len(each.prompt)))
            weight = float(advantage.flat[index])
            high = 1 + (loss.clip if loss.clip_high is None else loss.clip_high)
            for token, before_token, base in zip(policy, old[index], reference[index], strict=True):
                ratio = torch.exp(token - before_token)
                clipped = min(max(float(ratio.detach()), 1 - loss.clip), high)
                binds = clipped * weight < float(ratio.detach()) * weight
                kl = torch.exp(base - token) - (base - token) - 1
                total = total - (clipped * weight if binds else ratio * weight) + loss.kl_weight * kl
                metrics["clipped"] += binds / tokens / UPDATES
                if not update:
                    metrics["kl"] += float(kl.detach()) / tokens
                    metrics["entropy"] -= float(token.detach()) / tokens
        (total / tokens).backward()
        if not update:
            metrics["loss"] = float(total.detach()) / tokens
        descend(model)
    return flat(model) - before, metrics


def over_ranks(call: Callable[[int, Reduced], Any], ranks: int) -> list[Any]:
    """Call a function of (rank, sum over ranks) for each rank, with the sums of all."""
    given: list[list[Tensor]] = [[] for _ in range(ranks)]
    for rank in range(ranks):
        call(rank, lambda value, rank=rank: given[rank].append(value.clone()) or value)  # type: ignore[misc]
    sums = [torch.stack(values).sum(0) for values in zip(*given, strict=True)]
    results = []
    for rank in range(ranks):
        left = iter(sums)
        results.append(call(rank, lambda value, left=left: next(left)))  # type: ignore[misc]
    return results


def steps(
    loss: PolicyLoss, data: Prompts, packing: Packing, max_tokens: int, ranks: int = 1, passes: int | None = None
) -> tuple[Tensor, dict[str, float]]:
    """The change of the weights by one step of several updates, and its metrics; `passes` on each rank in lockstep."""
    model = adapted()
    if packing != "padded":
        register_attention()
        model.base_model.model.set_attn_implementation(ATTENTION)
    fuse(model)
    before = flat(model)
    module = FineTuneData(data, None, seed=5, batch_size=99, max_tokens=max_tokens, packing=packing, pad=0)
    objectives = [PolicyObjective(loss, data.roll_out, module.lay_out, updates=UPDATES) for _ in range(ranks)]

    def begin(rank: int, reduce: Reduced) -> StepBatch:
        module.trainer = SimpleNamespace(world_size=ranks, global_rank=rank, strategy=None)  # type: ignore[assignment]
        batch = module._step(module.plan(0), 0)
        return objectives[rank].begin(model, batch, 0, reduce, lockstep=passes is not None)

    batches = over_ranks(begin, ranks)
    assert passes is None or [len(batch.micro_batches) for batch in batches] == [passes] * ranks
    for _ in range(UPDATES):
        for objective, batch in zip(objectives, batches, strict=True):
            for index, micro in enumerate(batch.micro_batches):
                objective.loss(predict(model, micro), batch, index).backward()
        descend(model)
    metrics = over_ranks(lambda rank, reduce: objectives[rank].training_metrics(batches[rank], reduce), ranks)
    assert all(each == metrics[0] for each in metrics)
    return flat(model) - before, {name: float(value) for name, value in metrics[0].items()}


def assert_same(found: tuple[Tensor, dict[str, float]], plain: tuple[Tensor, dict[str, float]], data: Prompts) -> None:
    assert torch.linalg.norm(found[0] - plain[0]) <= 1e-4 * torch.linalg.norm(plain[0])
    for name in ("loss", "entropy", *(["kl"] if "kl" in found[1] else [])):
        assert found[1][name] == pytest.approx(plain[1][name], rel=1e-4, abs=1e-6)
    assert found[1]["clipped"] == pytest.approx(plain[1]["clipped"])
    rollout = data.roll_out(None, range(len(data)), 0)
    expected = {
        "reward": rollout.rewards.mean(),
        "reward_half": rollout.rewards.mean() / 2,
        "reward_spread": rollout.rewards.std(1, ddof=1).mean(),
        "no_signal": 1 / len(data),
        "length": rollout.target_counts.mean(),
        "truncated": np.mean([each.truncated for each in rollout.completions]),
    }
    assert {name: found[1][name] for name in expected} == pytest.approx(expected)


@pytest.fixture(scope="module")
def plain() -> dict[str, tuple[Tensor, dict[str, float]]]:
    return {"grpo": plain_steps(GRPO, Prompts(3)), "rloo": plain_steps(RLOO, Prompts(3))}


@pytest.mark.parametrize(("packing", "max_tokens"), LAYOUTS)
def test_the_layout_changes_no_update(packing: Packing, max_tokens: int, plain: Any) -> None:
    data = Prompts(3)
    assert plain["grpo"][1]["clipped"] > 0
    assert_same(steps(GRPO, data, packing, max_tokens), plain["grpo"], data)


@pytest.mark.parametrize(("packing", "max_tokens"), [("tree", 60), ("packed", 1), ("padded", 10**6)])
def test_ranks_divide_a_step_without_changing_it(packing: Packing, max_tokens: int, plain: Any) -> None:
    data = Prompts(3)
    assert_same(steps(RLOO, data, packing, max_tokens, ranks=2), plain["rloo"], data)


def test_a_rank_without_prompts_takes_part(plain: Any) -> None:
    data = Prompts(1)
    assert_same_change = steps(RLOO, data, "tree", 60, ranks=2)[0], steps(RLOO, data, "tree", 60)[0]
    assert torch.allclose(*assert_same_change, atol=1e-7)


def test_passes_that_keep_ranks_in_lockstep_change_nothing(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Prompts(3)
    monkeypatch.setattr("kamerton.train.objectives.policy.exchange", lambda passes: [passes, 7])
    assert_same(steps(RLOO, data, "tree", 60, ranks=2, passes=7), plain["rloo"], data)


def test_the_reference_is_computed_without_dropout() -> None:
    model = adapted().train()
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    data = FineTuneData(Prompts(3), None, seed=5, batch_size=99, max_tokens=10**6, packing="padded", pad=0)
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, strategy=None)  # type: ignore[assignment]
    objective = PolicyObjective(GRPO, Prompts(3).roll_out, data.lay_out, updates=1)

    def reference() -> Tensor:
        objective.begin(model, data._step(data.plan(0), 0), 0, lambda value: value)
        (logprobs,) = objective._reference
        assert logprobs is not None
        return logprobs

    assert torch.equal(reference(), reference())
    assert model.training


@pytest.mark.parametrize("packing", ["padded", "tree"])
def test_generation_and_training_agree_on_log_probabilities(packing: Packing) -> None:
    model = adapted()
    if packing == "tree":
        register_attention()
        model.base_model.model.set_attn_implementation(ATTENTION)
    fuse(model)
    data = Prompts(3)
    prompts = [Prompt(f"{i} {k}", data.prompts[i]) for i in range(3) for k in range(3)]
    decoding = Decoding(12, temperature=1.0, seed=1, logprobs=True)
    batches = plan_batches(model, prompts, decoding, 10**4)
    answers = {}
    for part in generate(model, prompts, batches, decoding, ends=frozenset(range(0, 250, 9)), pad=0):
        answers |= part
    completions = []
    for i, prompt in enumerate(prompts):
        tokens = answers[i].tokens if answers[i].end is None else (*answers[i].tokens, answers[i].end)
        completions.append(Completion(prompt.tokens, np.array(tokens, np.int32), np.array(answers[i].logprobs), False))
    rollout = Rollout(tuple(completions), np.zeros((3, 3)), {})
    assert {answer.end is None for answer in answers.values()} == {True, False}
    micro = SimpleNamespace(examples=tuple(range(len(rollout))))
    with torch.no_grad():
        result = predict(model, layout(rollout, micro, packing=packing, pad=0))  # type: ignore[arg-type]
    expected = torch.from_numpy(np.concatenate([each.logprobs for each in completions]))
    assert float((-result.nll.double() - expected).abs().max()) < 1e-4
