"""Checks of the options of data and of splits: every invalid value, with its key."""

from __future__ import annotations

import codecs
import math

from kamerton.data.codes import check_policy
from kamerton.data.data_file import form_of
from kamerton.data.form import check_form
from kamerton.data.options import (
    BALANCE,
    COMPARED,
    CONTROL_TOKENS,
    DELIMITERS,
    EARLIER_REASONING,
    FORMATS,
    OVERLONG,
    PARALLEL,
    ROWS,
    TRAIN_ON,
    DataOptions,
    SplitOptions,
)
from kamerton.errors import Fault


def check_data_options(options: DataOptions) -> list[Fault]:
    """Return a fault for each invalid value of `data.*`, without opening any file."""
    labels = options.labels
    is_label_list = isinstance(labels, list) and len(labels) >= 2 and len(set(labels)) == len(labels)
    checks = [
        (options.rows in ROWS, "rows", f"must be one of {', '.join(ROWS)}"),
        (options.overlong in OVERLONG, "overlong", f"must be one of {', '.join(OVERLONG)}"),
        (
            options.control_tokens in CONTROL_TOKENS,
            "control_tokens",
            f"must be one of {', '.join(CONTROL_TOKENS)}",
        ),
        (options.train_on in TRAIN_ON, "train_on", f"must be one of {', '.join(TRAIN_ON)}"),
        (
            options.earlier_reasoning in EARLIER_REASONING,
            "earlier_reasoning",
            f"must be one of {', '.join(EARLIER_REASONING)}",
        ),
        (options.balance in BALANCE, "balance", f"must be one of {', '.join(BALANCE)}"),
        (options.max_length >= 2, "max_length", "must be at least 2 tokens"),
        (
            options.near_duplicates is None or 0.5 <= options.near_duplicates <= 1,
            "near_duplicates",
            "must be a similarity from 0.5 to 1, or null",
        ),
        (
            labels is None or labels == "auto" or is_label_list,
            "labels",
            "must be auto, a list of at least two different labels, or null for free text",
        ),
    ]
    faults = [
        _bad_value(f"data.{key}", getattr(options, key), requirement) for valid, key, requirement in checks if not valid
    ]
    faults += _check_format(options.format, options.encoding, "data")
    faults += _check_table(options.delimiter, options.header, "data")
    faults += check_form(form_of(options), options.columns, "data")
    faults += _check_rows(options)
    for name, source in options.sources.items():
        key = f"data.sources.{name}"
        faults += check_form(form_of(source), source.columns, key)
        faults += _check_format(source.format, source.encoding, key)
        faults += _check_table(source.delimiter, source.header, key)
        if not 0 < source.weight <= 1e6:
            faults.append(_bad_value(f"{key}.weight", source.weight, "must be above 0, and at most 1e6"))
        if not source.path:
            faults.append(Fault("bad-value", f"{key} names no file", f"add {key}.path=FILE", column=f"{key}.path"))
    return faults + check_policy(options.policy) + _check_paths(options) + _check_subset(options) + _check_name(options)


def _check_name(options: DataOptions) -> list[Fault]:
    """Check that a name was not given to choose data that nothing else chooses, while those of TREC are read."""
    if options.format != "trec" or options.name == "trec" or not str(options.path).startswith("pypi://"):
        return []
    name = options.name
    message = f"data.name={name} chooses no data: the rows would be those of TREC, the embedded questions"
    fix = (
        f"give data=hub data.name=ORGANIZATION/{name.rpartition('/')[2]} for a data set of the hub, or data.path=FILE;"
        f" name={name} names the runs"
    )
    return [Fault("bad-value", message, fix, column="data.name")]


def _check_rows(options: DataOptions) -> list[Fault]:
    """Check that settings fit rows that have one completion, or several."""
    named = [(f"data.columns.{key}", options.columns, key) for key in ("chosen", "rejected")]
    named += [
        (f"data.sources.{name}.columns.{key}", source.columns, key)
        for name, source in options.sources.items()
        for key in ("chosen", "rejected")
    ]
    faults = []
    if options.rows not in COMPARED:
        for column, columns, key in named:
            if getattr(columns, key):
                fix = "add objective=dpo, or another objective that compares completions"
                message = f"{column} is given, and the rows are read as single completions"
                faults.append(Fault("bad-value", message, fix, column=column))
        if options.rows == "prompts" and options.train_on != "all":
            message = f"data.train_on={options.train_on} chooses turns of the data, and these rows are prompts alone"
            fix = "leave it out: what is trained on is generated"
            faults.append(Fault("bad-value", message, fix, column="data.train_on"))
        return faults
    what = "compare whole completions" if options.rows == "preferences" else "judge whole completions"
    checks = [
        ("train_on", options.train_on != "all", "data.train_on=all"),
        ("labels", isinstance(options.labels, list), "data.labels=auto"),
        ("balance", options.balance != "none", "data.balance=none"),
        ("completion", options.rows == "preferences" and options.completion is not None, "data.columns.chosen=NAME"),
        ("overlong", options.rows == "preferences" and options.overlong in ("truncate", "chunk"), "data.overlong=drop"),
    ]
    for key, is_wrong, fix in checks:
        if is_wrong:
            message = f"data.{key}={getattr(options, key)} does not fit data.rows={options.rows}, which {what}"
            faults.append(Fault("bad-value", message, f"set {fix}", column=f"data.{key}"))
    return faults


def _check_subset(options: DataOptions) -> list[Fault]:
    """Check that `config` and `split` are only given with a data set of the hub."""
    keys = [key for key in ("config", "split") if getattr(options, key)]
    values = [options.path, options.train, options.validation, options.test]
    values += [source.path for source in options.sources.values()]
    paths = [path for value in values if value for path in ([value] if isinstance(value, str) else value)]
    if not keys or any(path.lower().startswith("hf://") for path in paths):
        return []
    message = f"data.{keys[0]} chooses from a data set of the hub, and data.path names none"
    fix = f"leave out data.{keys[0]}, or give data=hub data.name=ORGANIZATION/NAME"
    return [Fault("bad-value", message, fix, column=f"data.{keys[0]}")]


def _check_format(format: str, encoding: str, key: str) -> list[Fault]:
    checks = [
        (format in FORMATS, "format", format, f"must be one of {', '.join(FORMATS)}"),
        (
            encoding == "auto" or is_text_encoding(encoding),
            "encoding",
            encoding,
            "must be auto or a text encoding that Python knows, such as utf-8",
        ),
    ]
    return [_bad_value(f"{key}.{name}", value, requirement) for valid, name, value, requirement in checks if not valid]


def _check_table(delimiter: str | None, header: str | int | list[str] | None, key: str) -> list[Fault]:
    names = header if isinstance(header, list) else []
    is_line = str(header).isdecimal() and int(str(header)) > 0
    is_header = (
        header in (None, "first") or is_line or (len(set(names)) == len(names) > 0 and all(map(str.strip, names)))
    )
    checks = [
        (
            delimiter is None or delimiter in DELIMITERS or (len(delimiter) == 1 and delimiter not in '"\r\n'),
            "delimiter",
            delimiter,
            f"must be one character, or {', '.join(DELIMITERS)}",
        ),
        (is_header, "header", header, "must be a list of different column names, first, or the line of the header"),
    ]
    return [_bad_value(f"{key}.{name}", value, requirement) for valid, name, value, requirement in checks if not valid]


def _check_paths(options: DataOptions) -> list[Fault]:
    """Check that exactly one of path, sources, and train (with validation and test) is set."""
    keys = [key for key in ("path", "sources", *PARALLEL, "train", "validation", "test") if getattr(options, key)]
    if not keys:
        fix = "add data.path=FILE, or data.train=FILE (and data.validation, data.test)"
        return [Fault("bad-value", "no data file is given", fix, column="data.path")]
    if keys[0] in PARALLEL:
        if keys == list(PARALLEL):
            return []
        other = PARALLEL[1 - PARALLEL.index(keys[0])]
        key = other if len(keys) == 1 else keys[-1]
        fix = f"add data.{other}=FILE" if len(keys) == 1 else "give only data.prompt_file and data.completion_file"
        state = "is not given" if len(keys) == 1 else "is given as well"
        return [Fault("bad-value", f"data.{keys[0]} is given, and data.{key} {state}", fix, column=f"data.{key}")]
    if keys[0] in ("path", "sources") and len(keys) > 1:
        message = f"data.{keys[0]} and data.{keys[1]} are both given"
        fix = "give only data.path or data.sources (to be split), or data.train, data.validation and data.test"
        return [Fault("bad-value", message, fix, column=f"data.{keys[0]}")]
    if keys[0] in ("validation", "test"):
        return [Fault("bad-value", "data.train is not given", "add data.train=FILE", column="data.train")]
    return []


def check_split_options(options: SplitOptions) -> list[Fault]:
    """Return a fault for each invalid value of `split.*`."""
    ratios = options.ratios
    are_shares = len(ratios) == 3 and all(math.isfinite(ratio) and ratio >= 0 for ratio in ratios)
    shares = "must be three shares (train, validation, test), none negative, that sum to 1"
    checks = [
        (are_shares and math.isclose(sum(ratios), 1, rel_tol=0, abs_tol=1e-9), "ratios", shares),
        (not are_shares or ratios[0] > 0, "ratios", "must leave rows to train on"),
        (options.seed >= 0, "seed", "must not be negative"),
        (options.folds is None or 2 <= options.folds <= 100, "folds", "must be from 2 to 100"),
        (0 <= options.fold < (options.folds or 1), "fold", f"must be from 0 to {(options.folds or 1) - 1}"),
        (options.held_out in ("validation", "test"), "held_out", "must be validation or test"),
        (
            not (options.time and (options.stratify or options.folds)),
            "time",
            "cannot be combined with split.stratify or split.folds",
        ),
    ]
    return [
        _bad_value(f"split.{key}", getattr(options, key), requirement)
        for valid, key, requirement in checks
        if not valid
    ]


def _bad_value(key: str, value: object, requirement: str) -> Fault:
    return Fault("bad-value", f"{key} is {value!r} but {requirement}", f"set {key} to such a value", column=key)


def is_text_encoding(name: str) -> bool:
    """Return whether files can be read in an encoding; `hex` is not for text, and `idna` does not report its faults."""
    try:
        if not getattr(codecs.lookup(name), "_is_text_encoding", True):
            return False
        codecs.getincrementaldecoder(name)("surrogateescape").decode(b"", final=True)
        return True
    except (LookupError, ValueError, TypeError):
        return False
