"""Preflight checks of a training, here or at an endpoint: faults beyond the schema of its configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from kamerton.config.check import section
from kamerton.config.derived import fold_of
from kamerton.config.hosted import is_hosted
from kamerton.config.schema import CvOptions
from kamerton.data.options import SplitOptions
from kamerton.errors import Fault
from kamerton.pipeline.check import build_faults, data_faults
from kamerton.quiet import quiet_training
from kamerton.run.opening import elsewhere_faults

_OF_DATA = {"data", "split", "cv", "model"}
_OF_CLASSES = {"model", "adapter", "optimizer", "trainer", "callbacks", "logger", "metrics", "allow_targets"}


def preflight_faults(values: dict[str, Any], sections: Collection[str]) -> list[Fault]:
    """Faults that only a look at the data, the classes and the model's name can find; loads no weights.

    Only `sections` of the configuration are looked at. Torch, Lightning and transformers, whose import takes seconds,
    are imported only for a section that needs them.
    """
    faults, sections = elsewhere_faults(values), set(sections)
    if not sections & (_OF_DATA | _OF_CLASSES):
        return faults
    quiet_training()
    if is_hosted(values):
        from kamerton.hosted.plan import plan_faults

        return [*faults, *plan_faults(values)]
    if sections & _OF_DATA:
        cv, split = section(CvOptions, values, "cv"), section(SplitOptions, values, "split")
        if cv is None or cv.folds is None or split is None:
            faults += data_faults(values)
        else:  # the data are split as for the first fold
            faults += data_faults({**values, "split": dataclasses.asdict(fold_of(split, cv, 0))})
    return faults + build_faults(values, sections)
