"""What a user can set about data and splits: plain dataclasses, checked by plain functions.

Nothing heavy is imported here: the command line builds its configuration schema from these classes.
"""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass, field

from kamerton.errors import Fault

FORMATS = ("jsonl", "csv", "parquet", "trec")
OVERLONG = ("error", "truncate", "drop")


@dataclass
class Columns:
    """Which column holds what. None: found by its usual name (`question`, `answer`, `text`, `label`, ...)."""

    prompt: str | None = None
    completion: str | None = None
    label: str | None = None
    messages: str | None = None
    text: str | None = None
    metadata: list[str] | None = None  # None: every column that is nothing else; []: none


@dataclass
class DataOptions:
    """One data set: a file to split (`path`) or files already split (`train`, `validation`, `test`).

    A path is a file, a directory, a glob pattern or a list of them.
    """

    name: str = "data"
    format: str = "jsonl"
    path: str | list[str] | None = None
    train: str | list[str] | None = None
    validation: str | list[str] | None = None
    test: str | list[str] | None = None
    columns: Columns = field(default_factory=Columns)
    labels: str | list[str] | None = "auto"  # "auto", the labels themselves, or None for free text
    encoding: str = "utf-8"
    max_length: int = 1024
    overlong: str = "error"


@dataclass
class SplitOptions:
    """How one file becomes train, validation and test; `ratios` in that order.

    `group` keeps rows together that share a value: "prompt" (the default: no prompt is in two splits), a metadata
    field, or None (each row for itself). `stratify` ("label" or a metadata field) gives every split the same shares.
    """

    ratios: list[float] = field(default_factory=lambda: [0.7, 0.15, 0.15])
    seed: int = 42
    stratify: str | None = None
    group: str | None = "prompt"


def check_data_options(options: DataOptions) -> list[Fault]:
    """Values of `data.*` that cannot be used; looks at no file."""
    checks = [
        (options.format in FORMATS, "format", f"must be one of {', '.join(FORMATS)}"),
        (options.overlong in OVERLONG, "overlong", f"must be one of {', '.join(OVERLONG)}"),
        (options.max_length >= 2, "max_length", "must be at least 2 tokens"),
        (_is_codec(options.encoding), "encoding", "must be a text encoding that Python knows, such as utf-8"),
        (
            not isinstance(options.labels, str) or options.labels == "auto",
            "labels",
            "must be auto, a list of labels, or null for free text",
        ),
    ]
    faults = [_value(f"data.{key}", getattr(options, key), what) for good, key, what in checks if not good]
    given = [key for key in ("path", "train", "validation", "test") if getattr(options, key)]
    if not given:
        faults.append(_no_data())
    elif options.path and len(given) > 1:
        message = f"data.path and data.{given[1]} are both given"
        fix = "give data.path alone (it will be split), or data.train, data.validation and data.test"
        faults.append(Fault("bad-value", message, fix, column="data.path"))
    elif not options.path and not options.train:
        faults.append(
            Fault("bad-value", "data.train is not given", "add data.train=FILE", column="data.train")
        )
    return faults


def check_split_options(options: SplitOptions) -> list[Fault]:
    """Values of `split.*` that cannot be used."""
    faults = []
    ratios = options.ratios
    if (
        len(ratios) != 3
        or any(not math.isfinite(r) or r < 0 for r in ratios)
        or not math.isclose(sum(ratios), 1, abs_tol=1e-9)
    ):
        what = "must be three shares (train, validation, test), none negative, that sum to 1"
        faults.append(_value("split.ratios", ratios, what))
    elif ratios[0] == 0:
        faults.append(_value("split.ratios", ratios, "must leave something to train on"))
    if options.seed < 0:
        faults.append(_value("split.seed", options.seed, "must not be negative"))
    return faults


def _value(key: str, value: object, what: str) -> Fault:
    return Fault("bad-value", f"{key} is {value!r} but {what}", f"set {key} to such a value", column=key)


def _no_data() -> Fault:
    fix = "add data.path=FILE, or data.train=FILE (and data.validation, data.test)"
    return Fault("bad-value", "no data file is given", fix, column="data.path")


def _is_codec(name: str) -> bool:
    try:
        return bool(getattr(codecs.lookup(name), "_is_text_encoding", True))
    except (LookupError, ValueError, TypeError):
        return False
