"""From the section `objective` to the objective of training."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kamerton.config.objective_options import ObjectiveOptions
from kamerton.data.encode.arrays import Encoded
from kamerton.objective.judgements import JudgedRows, JudgementLoss
from kamerton.objective.pair_loss import PairLoss
from kamerton.objective.pairs import PreferenceRows
from kamerton.objective.policy import PolicyLoss
from kamerton.train.data_module import FineTuneData
from kamerton.train.objectives.judgement import JudgementObjective
from kamerton.train.objectives.policy import PolicyObjective
from kamerton.train.objectives.preference import PreferenceObjective
from kamerton.train.objectives.supervised import SupervisedObjective
from kamerton.train.rollouts import RollOut

Objective = SupervisedObjective | PreferenceObjective | JudgementObjective | PolicyObjective


def build_objective(
    options: ObjectiveOptions,
    data: FineTuneData,
    roll_out: RollOut | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> Objective:
    """Build the objective of training; `data` has the preferences, `roll_out` generates what rewards are for.

    `initial` are the weights before training, if all of them are trained and `objective.kl_weight` needs them.
    """
    if roll_out is not None:
        names = ("baseline", "standardise", "clip", "clip_high", "kl_weight")
        policy = PolicyLoss(**{name: getattr(options, name) for name in names})
        answered = data.validation.examples.is_answered if isinstance(data.validation, Encoded) else None
        return PolicyObjective(
            policy, roll_out, data.lay_out, updates=options.updates, answered=answered, initial=initial
        )
    if data.preferences is None:
        return SupervisedObjective()
    rows = data.preferences[1]
    if options.name == "kto":
        assert rows is None or isinstance(rows, JudgedRows)
        judged = None if rows is None else rows.judge(range(len(rows.starts)), range(len(rows.rows.scores)))
        loss = JudgementLoss(options.beta, options.desired_weight, options.undesired_weight)
        return JudgementObjective(loss, judged)
    assert rows is None or isinstance(rows, PreferenceRows)
    pairs = None if rows is None else rows.compare(range(len(rows.starts)), range(len(rows.scores)))
    fields = ("name", "beta", "label_smoothing", "margin", "sft_weight")
    return PreferenceObjective(PairLoss(**{name: getattr(options, name) for name in fields}), pairs)
