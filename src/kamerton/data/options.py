"""Options for data and splits: plain dataclasses, checked by plain functions.

Imports nothing heavy, because the command line builds its configuration schema from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FORMATS = ("auto", "jsonl", "csv", "parquet", "arrow", "xlsx", "text", "trec")
CONTROL_TOKENS = ("text", "parse")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
PARALLEL = ("prompt_file", "completion_file")
OVERLONG = ("error", "truncate", "drop", "chunk")
TRAIN_ON = ("all", "calls", "answers")
EARLIER_REASONING = ("template", "keep", "drop")
COMPARED = ("preferences", "judgements")  # rows whose completions are compared, or judged
ROWS = ("completions", "prompts", *COMPARED)
BALANCE = ("none", "over", "under", "weights")


@dataclass
class Columns:
    """The role of each column. None: detected by its usual name (`question`, `answer`, `text`, `label`, ...)."""

    prompt: str | None = None  # column of the prompt
    completion: str | None = None  # column of the completion
    label: str | None = None  # column of the label
    messages: str | None = None  # column of chat turns
    text: str | None = None  # column of plain text
    chosen: str | None = None  # column of the better completion (objective=dpo)
    rejected: str | None = None  # column of the worse completion
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
    header: str | int | list[str] | None = None
    prompt: str | None = None
    completion: str | None = None
    system: str | None = None
    instruction: str | None = None
    label_names: list[str] | dict[str | int, str] | None = None
    records: str | None = None


@dataclass
class DataOptions:
    """One data set: files to split (`path`), files already split (`train`, ...), or several `sources` to mix and split.

    Args:
        name: the name of the data in reports.
        rows: `completions` (a prompt and what is learnt after it), `prompts` (the completion may be missing),
            `preferences` (completions of a prompt of which some are better) or `judgements` (completions that are
            desired or not); set by the objective.
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
        header: the columns of tables whose first line is data, `first` if the first line names them, or the line of the
            header below a title; None: detected.
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
        label_names: the names of labels that are numbers: a list, whose first name is that of label 0, or a mapping.

    Example:
        >>> from kamerton import DataOptions, validate
        >>> options = DataOptions(path="questions.jsonl", policy={"exact-duplicate": "warn"})
        >>> validate(options).is_valid
        True
    """

    name: str = "data"  # name of the data; the default of `name`
    rows: str = "completions"  # or prompts (alone, or with completions), preferences, judgements; set by objective=…
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
    header: str | int | list[str] | None = None  # columns of tables without a header; first, or its line
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
