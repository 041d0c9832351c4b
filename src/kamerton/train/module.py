"""Lightning module for fine-tuning: one batch is one exact optimizer step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from kamerton.model.adapter import trainable_state
from kamerton.model.gradients import add_in_place
from kamerton.model.loss import predict
from kamerton.model.memory import keep_memory
from kamerton.model.shard import full_value, gather, is_sharded, reshard, shard
from kamerton.train.batches import EvalBatch, StepBatch
from kamerton.train.objectives.build import Objective
from kamerton.train.objectives.policy import PolicyObjective
from kamerton.train.objectives.supervised import SupervisedObjective

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler]


class FineTuneModule(pl.LightningModule):
    """Fine-tune `model` with manual optimization, so that Lightning's steps are optimizer steps.

    `total_steps` is the length of the learning-rate schedule; `clip_norm` bounds the gradient's 2-norm (None: no
    bound). Dropout is seeded by (seed, step, rank), so a resumed run repeats it. `label_smoothing` only affects the
    gradient: logged losses are true negative log-likelihoods.
    """

    # A checkpoint contains only the trained parameters; the frozen ones come from the base model.
    strict_loading = False

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        *,
        total_steps: int,
        clip_norm: float | None = 1.0,
        label_smoothing: float = 0.0,
        seed: int = 0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.objective = objective or SupervisedObjective()
        self._optimizer, self._scheduler = optimizer, scheduler
        self._total_steps, self._clip_norm, self._seed = total_steps, clip_norm, seed
        self._label_smoothing = label_smoothing
        self.step_batch: StepBatch | None = None  # the last step as it was trained: a policy objective lays it out
        self.tokens_seen = 0
        self.examples_seen = 0

    def setup(self, stage: str) -> None:
        sharded = getattr(self.trainer.strategy, "lockstep", False)  # weights are gathered and released in each pass
        if stage == "fit" and not sharded and self.trainer.strategy.root_device.type == "cpu":
            keep_memory()
            if isinstance(self.trainer.strategy, SingleDeviceStrategy):  # DDP hooks into gradient accumulation
                add_in_place(weight for weight in self._trained() if weight.ndim == 2)

    def configure_model(self) -> None:
        if self.device_mesh is not None and not is_sharded(self.model):
            shard(self.model, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer(self.model)
        return [optimizer], [self._scheduler(optimizer, self._total_steps)]

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """Run backward for every micro-batch by its part of the step's loss; then step once."""
        del batch_idx
        seed = step_seed(self._seed, self.global_step, self.global_rank)
        torch.manual_seed(seed)
        updates = 1
        if isinstance(self.objective, PolicyObjective):
            updates = self.objective.updates
            lockstep = getattr(self.trainer.strategy, "lockstep", False)
            batch = self.objective.begin(self.model, batch, self.global_step, self._over_ranks, lockstep=lockstep)
        self.objective.before(self.model, batch, self._over_ranks)
        torch.manual_seed(seed)  # dropout is the same in the passes beforehand
        self.step_batch = batch
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        rate = optimizer.param_groups[0]["lr"]
        for update in range(1, updates + 1):
            self._backward(batch)
            norm = self._clip_and_step(optimizer, counts=update == updates)
        self.lr_schedulers().step()  # type: ignore[union-attr]
        self.tokens_seen += batch.tokens
        self.examples_seen += batch.examples
        metrics = self.objective.training_metrics(batch, self._over_ranks).items()
        values = {f"train/{name}": value.float() for name, value in metrics}
        self.log_dict({**values, "train/grad_norm": norm, "lr": rate})

    def _backward(self, batch: StepBatch) -> None:
        """Add the gradient of a step's loss, pass by pass."""
        last = len(batch.micro_batches) - 1
        for index, micro in enumerate(batch.micro_batches):
            with self._synchronized(index == last):
                result = predict(self.model, micro, label_smoothing=self._label_smoothing)
                # DDP and FSDP average gradients over ranks; the step's loss is a sum, so undo the division.
                self.manual_backward(self.objective.loss(result, batch, index) * self.trainer.world_size)

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return the predictions for callbacks (fields of `Predictions`); empty for a batch that does not count."""
        del batch_idx
        result = predict(self.model, batch.rows)
        if not batch.counts:
            return {}
        self.objective.validate(result, batch)
        values = {"predicted": result.predicted, "token": result.token, "sequence": result.sequence}
        if isinstance(self.objective, PolicyObjective):
            counted = self.objective.of_references(result, batch)
            return {name: value[counted] for name, value in values.items()} if counted.any() else {}
        return values

    def on_validation_epoch_end(self) -> None:
        values = self.objective.validation_metrics(self._over_ranks)
        self.log_dict({f"val/{name}": value.float() for name, value in values.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        reshard(self.model)
        trained = trainable_state(self.model).items()
        checkpoint["state_dict"] = {f"model.{name}": gather(weight) for name, weight in trained}
        checkpoint["kamerton"] = {"tokens_seen": self.tokens_seen, "examples_seen": self.examples_seen}

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        counts = checkpoint["kamerton"]
        self.tokens_seen, self.examples_seen = counts["tokens_seen"], counts["examples_seen"]

    def _over_ranks(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum")

    def _clip(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """Clip the gradient's 2-norm to `clip_norm` and return the norm before clipping."""
        trained = [weight for weight in self._trained() if weight.grad is not None]
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = scaler.get_scale() if scaler is not None else 1.0  # float16 gradients are still scaled here
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in trained if weight.grad is not None]) / scale
        if self._clip_norm is None:
            return norm
        if scaler is None and type(norm) is Tensor and optimizer.defaults.get("fused"):
            # The fused kernel divides as it reads the gradients, which saves a pass over them.
            optimizer.grad_scale = (norm.float() / self._clip_norm).clamp(min=1.0)  # type: ignore[attr-defined]
        else:
            torch.nn.utils.clip_grads_with_norm_(trained, self._clip_norm, norm)
        return norm

    def _synchronized(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which ranks exchange gradients only in the last pass of a step."""
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(last)
            return contextlib.nullcontext()
        wrapped: Any = self.trainer.strategy.model
        if hasattr(wrapped, "set_gradient_accumulation_boundary"):  # DeepSpeed
            wrapped.set_gradient_accumulation_boundary(last)
            return contextlib.nullcontext()
        return contextlib.nullcontext() if last or not hasattr(wrapped, "no_sync") else wrapped.no_sync()

    def _clip_and_step(self, optimizer: pl.core.optimizer.LightningOptimizer, *, counts: bool = True) -> Tensor:
        """Clip, step and reset the gradients; return the norm of the whole gradient before clipping.

        If not `counts`, the update is no step of Lightning: a later update of the same step is.
        """
        wrapped: Any = self.trainer.strategy.model
        if hasattr(wrapped, "get_global_grad_norm"):  # DeepSpeed clips as it steps
            optimizer.step()
            return torch.as_tensor(wrapped.get_global_grad_norm())
        norm = self._clip(optimizer.optimizer)
        (optimizer if counts else optimizer.optimizer).step()
        optimizer.zero_grad()
        return full_value(norm)

    def _trained(self) -> list[nn.Parameter]:
        return [weight for weight in self.model.parameters() if weight.requires_grad]


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of one step's randomness (dropout); each argument is at least 0.

    It equals CPython's hash of the tuple since 3.8 (xxHash64's rounds over the numbers, modulo 2^63), implemented here
    because Python does not guarantee it: with another hash, a resumed run would not reach the same weights.
    """
    prime_1, prime_2, prime_5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x27D4EB2F165667C5
    mixed = prime_5
    for number in (seed, step, rank):
        mixed = (mixed + number % (2**61 - 1) * prime_2) % 2**64
        mixed = (mixed << 31 | mixed >> 33) * prime_1 % 2**64
    mixed = (mixed + (3 ^ prime_5 ^ 3527539)) % 2**64  # 3 numbers
    return (mixed if mixed != 2**64 - 1 else 1546275796) % 2**63
