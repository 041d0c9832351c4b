"""Options for data and splits: plain dataclasses, checked by plain functions.

Imports nothing heavy, because the command line builds its configuration schema from these classes.
"""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass, field
from pathlib import Path

from kamerton.data.codes import check_policy
from kamerton.data.form import Form, check_form
from kamerton.errors import Fault

FORMATS = ("auto", "jsonl", "csv", "parquet", "arrow", "xlsx", "text", "trec")
CONTROL_TOKENS = ("text", "parse")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
PARALLEL = ("prompt_file", "completion_file")
OVERLONG = ("error", "truncate", "drop", "chunk")
TRAIN_ON = ("all", "calls", "answers")
EARLIER_REASONING = ("template", "keep", "drop")
BALANCE = ("none", "over", "under", "weights")


@dataclass
class Columns:
    """The role of each column. None: detected by its usual name (`question`, `answer`, `text`, `label`, ...)."""

    prompt: str | None = None  # column of the prompt
    completion: str | None = None  # column of the completion
    label: str | None = None  # column of the label
    messages: str | None = None  # column of chat turns
    text: str | None = None  # column of plain text
    metadata: list[str] | None = None  # None: every column that is nothing else; []: none


@dataclass
class Source:
    """One of several sources to mix; `weight` is how often each of its training rows occurs in an epoch."""

    path: str | list[str] = ""
    format: str = "auto"
    columns: Columns = field(default_factory=Columns)
    encoding: str = "auto"
    weight: float = 1.0
    delimiter: str | None = None
    header: str | list[str] | None = None
    prompt: str | None = None
    completion: str | None = None
    system: str | None = None
    instruction: str | None = None
    label_names: list[str] | dict[str | int, str] | None = None
    records: str | None = None


@dataclass(frozen=True, slots=True)
class Subset:
    """The configuration of a data set of the hub (None: the only or default one) and its splits (empty: all)."""

    config: str | None = None
    splits: tuple[str, ...] = ()


@dataclass
class DataOptions:
    """One data set: files to split (`path`), files already split (`train`, ...), or several `sources` to mix and split.

    Args:
        name: the name of the data in reports.
        format: `auto` (found by the content of each file), `jsonl` (JSON in any form), `csv`, `parquet`, `xlsx`, `text`
            (a document per file) or `trec`.
        path: a file, a directory, a glob pattern, an address (`s3://…`, `https://…`) or a list of them, to be split.
        train, validation, test: the same, already split; not with `path`.
        config: the configuration of a data set of the hub (`hf://…`); None: the only or default one.
        split: the split of that data set to read, or one for each purpose: `[train_sft, test_sft]`; None: all.
        sources: several data sets by name, each with its own path, format, columns and weight; not with `path`.
        columns: the names of the columns; those of None are detected.
        labels: `auto`, a list of labels, or None for free text.
        encoding: the encoding of text files; `auto`: UTF-8, or another one if it is certain.
        delimiter: the delimiter of tables: a character, or `comma`, `semicolon`, `tab`, `bar`; None: detected.
        records: where the records of a file are: a key of a JSON object (also nested, `data[].items[]`), the sheet of a
            workbook, or `lines` for a text file whose lines are documents.
        prompt_file, completion_file: two text files with a prompt and its completion on lines of the same number.
        header: the columns of tables whose first line is data, or `first` if the first line names them; None: detected.
        policy: actions by fault code: `error`, `drop`, `fix` or `warn` (`kamerton.data.codes`).
        near_duplicates: share of words and word pairs (Jaccard similarity) from which rows are near duplicates; None:
            no search.
        balance: `none`, `over`, `under` or `weights`, for the labels of the training split.
        max_length: limit of tokens of prompt and completion.
        overlong: what happens to longer rows: `error`, `truncate`, `drop`, or `chunk` (plain text is cut into windows).
        control_tokens: `text` or `parse`: how the string of a control token in a text is read.
        train_on: the assistant's turns that are trained on: `all`, `calls` (with calls of functions) or `answers`.
        train_on_reasoning: whether the reasoning of those turns is trained on, or only read.
        earlier_reasoning: the reasoning of earlier turns: as the chat template writes it, `keep` or `drop`.
        prompt, completion: templates over the columns, such as `{context}\\n\\n{question}`.
        system: the system turn: a text, or a template over the columns.
        instruction: a text before the prompt, in the user's turn.
        label_names: the names of labels that are numbers: a list from 0, or a mapping.

    Example:
        >>> from kamerton import DataOptions, validate
        >>> options = DataOptions(path="questions.jsonl", policy={"exact-duplicate": "warn"})
        >>> validate(options).is_valid
        True
    """

    name: str = "data"  # name of the data; the default of `name`
    format: str = "auto"  # auto (by content), jsonl (JSON in any form), csv, parquet, xlsx, text or trec
    path: str | list[str] | None = None  # files to split: a file, folder, glob or list
    train: str | list[str] | None = None  # files that are split already
    validation: str | list[str] | None = None  # files that are split already
    test: str | list[str] | None = None  # files that are split already
    config: str | None = None  # configuration of a data set of the hub (hf://…); null: the only or default one
    split: str | list[str] | None = None  # its split, or one for each purpose: [train_sft, test_sft]; null: all
    sources: dict[str, Source] = field(default_factory=dict)
    columns: Columns = field(default_factory=Columns)
    labels: str | list[str] | None = "auto"  # "auto", the labels themselves, or None for free text
    encoding: str = "auto"  # of text files; auto: UTF-8, or another one if it is certain
    delimiter: str | None = None  # of tables: a character, or comma, semicolon, tab, bar; null: detected
    records: str | None = None  # where the records are: a key of JSON, such as data[].items[], a sheet, or lines
    prompt_file: str | None = None  # a text file whose lines are prompts, beside completion_file
    completion_file: str | None = None  # the completions: line i answers line i of prompt_file
    header: str | list[str] | None = None  # columns of tables without a header; first: the first line names them
    policy: dict[str, str | None] = field(default_factory=dict)
    near_duplicates: float | None = 0.85
    balance: str = "none"  # labels of the training split: over- or undersampling, or weights in the loss
    max_length: int = 1024
    overlong: str = "error"
    control_tokens: str = "text"  # a control token's string in a text is read as text, or (parse) as the control token
    train_on: str = "all"  # the assistant's turns: all, calls (those with calls of functions) or answers (the others)
    train_on_reasoning: bool = True  # false: reasoning is context, the tags around it and the answer are targets
    earlier_reasoning: str = "template"  # of earlier turns: as the chat template writes it at inference, keep or drop
    prompt: str | None = None  # template over the columns: "{context}\\n\\n{question}"
    completion: str | None = None  # template over the columns
    system: str | None = None  # system turn: a text, or a template over the columns
    instruction: str | None = None  # text before the prompt, in the user's turn
    label_names: list[str] | dict[str | int, str] | None = None  # names of labels that are numbers: [no,yes] or {0: no}


@dataclass
class SplitOptions:
    """How data become train, validation and test splits.

    Args:
        ratios: the shares of train, validation and test.
        seed: the split depends on it and on the contents of rows, not on their order.
        stratify: `label` or a metadata field: every split gets the same shares of its values.
        group: `prompt` (no prompt is in two splits), a metadata field whose values stay together, or None.
        time: a metadata field: the oldest rows train, the newest test.
        folds: divide the rows outside the test split into this many folds.
        fold: the fold that validates, from 0.
        held_out: with `test`, all rows are in folds, and `fold` is the test split (`kamerton.data.splits.folds`).

    Example:
        >>> from kamerton import DataOptions, SplitOptions, prepare
        >>> split = SplitOptions(ratios=[0.8, 0.1, 0.1], stratify="label")
        >>> prepared = prepare(DataOptions(path="questions.jsonl"), split)
        >>> {name: len(examples) for name, examples in prepared.splits.items()}
        {'train': 96, 'validation': 12, 'test': 12}
    """

    ratios: list[float] = field(default_factory=lambda: [0.7, 0.15, 0.15])
    seed: int = 42  # the split depends on it and on the contents
    stratify: str | None = None
    group: str | None = "prompt"  # prompt, or a metadata field: rows with one value stay together
    time: str | None = None  # a metadata field: the oldest rows train, the newest test
    folds: int | None = None  # folds of the rows outside the test split
    fold: int = 0  # the fold that validates, from 0
    held_out: str = "validation"  # the split that fold becomes: validation or test


def check_data_options(options: DataOptions) -> list[Fault]:
    """Return a fault for each invalid value of `data.*`, without opening any file."""
    labels = options.labels
    is_label_list = isinstance(labels, list) and len(labels) >= 2 and len(set(labels)) == len(labels)
    checks = [
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
    for name, source in options.sources.items():
        key = f"data.sources.{name}"
        faults += check_form(form_of(source), source.columns, key)
        faults += _check_format(source.format, source.encoding, key)
        faults += _check_table(source.delimiter, source.header, key)
        if not (math.isfinite(source.weight) and source.weight > 0):
            faults.append(_bad_value(f"{key}.weight", source.weight, "must be above 0"))
        if not source.path:
            faults.append(Fault("bad-value", f"{key} names no file", f"add {key}.path=FILE", column=f"{key}.path"))
    return faults + check_policy(options.policy) + _check_paths(options) + _check_subset(options)


def subset_of(options: DataOptions) -> Subset:
    """Return the configuration and the splits that `options` choose."""
    splits = [options.split] if isinstance(options.split, str) else options.split or []
    return Subset(options.config, tuple(splits))


def _check_subset(options: DataOptions) -> list[Fault]:
    """Check that `config` and `split` are given with a data set of the hub alone."""
    given = [key for key in ("config", "split") if getattr(options, key)]
    values = [options.path, options.train, options.validation, options.test]
    values += [source.path for source in options.sources.values()]
    paths = [path for value in values if value for path in ([value] if isinstance(value, str) else value)]
    if not given or any(path.lower().startswith("hf://") for path in paths):
        return []
    message = f"data.{given[0]} chooses from a data set of the hub, and data.path names none"
    fix = f"leave out data.{given[0]}, or give data=hub data.name=ORGANIZATION/NAME"
    return [Fault("bad-value", message, fix, column=f"data.{given[0]}")]


def _check_format(format: str, encoding: str, key: str) -> list[Fault]:
    checks = [
        (format in FORMATS, "format", format, f"must be one of {', '.join(FORMATS)}"),
        (
            encoding == "auto" or _is_codec(encoding),
            "encoding",
            encoding,
            "must be auto or a text encoding that Python knows, such as utf-8",
        ),
    ]
    return [_bad_value(f"{key}.{name}", value, requirement) for valid, name, value, requirement in checks if not valid]


def _check_table(delimiter: str | None, header: str | list[str] | None, key: str) -> list[Fault]:
    names = header if isinstance(header, list) else []
    is_header = header in (None, "first") or (len(set(names)) == len(names) > 0 and all(map(str.strip, names)))
    checks = [
        (
            delimiter is None or delimiter in DELIMITERS or (len(delimiter) == 1 and delimiter not in '"\r\n'),
            "delimiter",
            delimiter,
            f"must be one character, or {', '.join(DELIMITERS)}",
        ),
        (is_header, "header", header, "must be a list of different column names, or first"),
    ]
    return [_bad_value(f"{key}.{name}", value, requirement) for valid, name, value, requirement in checks if not valid]


def _check_paths(options: DataOptions) -> list[Fault]:
    """Check that exactly one of path, sources, and train (with validation and test) is set."""
    given = [key for key in ("path", "sources", *PARALLEL, "train", "validation", "test") if getattr(options, key)]
    if not given:
        fix = "add data.path=FILE, or data.train=FILE (and data.validation, data.test)"
        return [Fault("bad-value", "no data file is given", fix, column="data.path")]
    if given[0] in PARALLEL:
        if given == list(PARALLEL):
            return []
        other = PARALLEL[1 - PARALLEL.index(given[0])]
        key = other if len(given) == 1 else given[-1]
        fix = f"add data.{other}=FILE" if len(given) == 1 else "give data.prompt_file and data.completion_file alone"
        state = "is not given" if len(given) == 1 else "is given as well"
        return [Fault("bad-value", f"data.{given[0]} is given, and data.{key} {state}", fix, column=f"data.{key}")]
    if given[0] in ("path", "sources") and len(given) > 1:
        message = f"data.{given[0]} and data.{given[1]} are both given"
        fix = "give data.path or data.sources alone (to be split), or data.train, data.validation and data.test"
        return [Fault("bad-value", message, fix, column=f"data.{given[0]}")]
    if given[0] in ("validation", "test"):
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


def _is_codec(name: str) -> bool:
    try:
        return bool(getattr(codecs.lookup(name), "_is_text_encoding", True))
    except (LookupError, ValueError, TypeError):
        return False


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file to read. `split` is None if its rows are to be split; files of the same `source` share a schema.

    `member` is the name of the file within the archive `path`; `companion` has the completions of a file of prompts.
    `path` is the local copy of a file with an `address`, of this `version` there.
    """

    path: Path
    split: str | None
    source: str
    format: str
    encoding: str
    columns: Columns
    delimiter: str | None = None
    header: str | list[str] | None = None
    member: str = ""
    form: Form = field(default_factory=Form)
    records: str | None = None
    companion: Path | None = None
    address: str = ""
    version: str = ""
    companion_version: str = ""

    @property
    def shown(self) -> str:
        """The path or address in faults and reports."""
        return self.address or str(self.path)

    @property
    def name(self) -> str:
        """The file's name in faults and reports."""
        return f"{self.shown}/{self.member}" if self.member else self.shown


def form_of(options: DataOptions | Source) -> Form:
    """Return the settings of `options` that write prompt and completion."""
    return Form(options.prompt, options.completion, options.system, options.instruction, options.label_names)
