"""The section `objective` of the configuration: what is learnt, and the options of each loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

ObjectiveName = Literal["sft", "dpo", "ipo", "simpo", "orpo", "kto", "apo_zero", "apo_down", "grpo", "rloo"]
GENERATING = ("grpo", "rloo")  # objectives that learn from rewards of generated completions


@dataclass(frozen=True)
class ObjectiveOptions:
    """What is learnt: `sft` the completions, every other `name` which completions of a prompt are better.

    Choose it as a group (`objective=dpo`), which also has the data read as preferences and the usual values of the
    paper. `beta` is the strength of the pull to the reference model, or of the preference (simpo, orpo);
    `label_smoothing` the probability that a preference is wrong (dpo); `margin` the target margin (simpo);
    `sft_weight` times the mean negative log-likelihood per token of the better completion is added to the loss.
    kto learns from single completions: desired ones weigh `desired_weight`, the others `undesired_weight`.

    grpo and rloo generate `samples` completions of up to `max_new_tokens` tokens for each prompt of a step, and learn
    from their rewards (the section `reward`), `updates` times: from the reward less the mean of all completions of the
    prompt or of the others (`baseline`), divided by its standard deviation or not (`standardise`). The ratio of a
    token's probability to that at generation is clipped to 1 - `clip` and 1 + `clip_high` (null: `clip`). `kl_weight`
    times the divergence from the model before training is added to the loss.
    """

    name: ObjectiveName = "sft"  # set by the group
    beta: Annotated[float, Gt(0)] = 0.1  # the smaller, the further the model may go from the reference
    label_smoothing: Annotated[float, Ge(0), Lt(0.5)] = 0.0  # of dpo: probability that a preference is wrong
    margin: Annotated[float, Ge(0)] = 0.0  # of simpo: margin of the rewards per token
    sft_weight: Annotated[float, Ge(0)] = 0.0  # weight of the likelihood of the chosen completion in the loss
    desired_weight: Annotated[float, Ge(0)] = 1.0  # of kto: weight of desired completions
    undesired_weight: Annotated[float, Ge(0)] = 1.0  # of kto: weight of the other completions
    samples: Annotated[int, Ge(2), Le(4096)] = 8  # of grpo and rloo: completions of each prompt
    max_new_tokens: Annotated[int, Gt(0)] = 256  # limit of a completion
    updates: Annotated[int, Gt(0)] = 1  # on the completions of a step
    baseline: Literal["mean", "leave_one_out"] = "mean"  # mean of its group, or of the others
    standardise: bool = True  # divide by the standard deviation of the group
    clip: Annotated[float, Gt(0), Lt(1)] = 0.2  # bound of the ratio of a token's probabilities
    clip_high: Annotated[float, Gt(0)] | None = None  # upper bound of its own
    kl_weight: Annotated[float, Ge(0)] = 0.0  # weight of the divergence from the model before training

    @property
    def generates(self) -> bool:
        """Whether completions are generated in training, and learnt from by their rewards."""
        return self.name in GENERATING
