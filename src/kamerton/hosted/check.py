"""TODO."""

from __future__ import annotations

import dataclasses
from typing import Any

from kamerton.config.check import section
from kamerton.config.hosted import is_hosted
from kamerton.config.schema import CvOptions
from kamerton.data.options import SplitOptions
from kamerton.errors import Fault
from kamerton.pipeline.check import data_faults
from kamerton.quiet import quiet_training


def deep_faults(values: dict[str, Any]) -> list[Fault]:
    """Faults that only a look at the data, the classes and the model's name can find; loads no weights."""
    from kamerton.pipeline.check import build_faults
    from kamerton.run.opening import elsewhere_faults

    quiet_training()
    elsewhere = elsewhere_faults(values)
    if is_hosted(values):
        from kamerton.hosted.plan import plan_faults

        return [*elsewhere, *plan_faults(values)]
    return [*elsewhere, *data_faults(_as_split(values)), *build_faults(values)]


def _as_split(values: dict[str, Any]) -> dict[str, Any]:
    """The values as the data stage reads them: of a cross-validation, those of its first fold."""
    cv, split = section(CvOptions, values, "cv"), section(SplitOptions, values, "split")
    if cv is None or cv.folds is None or split is None:
        return values
    from kamerton.pipeline.cross_validation import crossed

    return {**values, "split": dataclasses.asdict(crossed(split, cv, 0))}
