"""The data stage for the terminal: rows dropped, fixed or truncated, and encoded examples in colour."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.data.read.columns.unused import list_counts
from kamerton.errors import Fault
from kamerton.output import printable

if TYPE_CHECKING:
    from rich.text import Text

    from kamerton.data.data_report import DataReport
    from kamerton.data.encode.arrays import Encoded
    from kamerton.data.options import DataOptions


def data_losses(report: DataReport) -> list[tuple[str, str]]:
    """Return `(left out | fixed | truncated | ..., text)` of a data report; empty for unchanged data."""
    truncated = []
    for part in report.encoded:
        if part["truncated"]:
            rows, lost = part["truncated"], part["lost_target_percent"]
            text = f"{rows:,} {part['split']} row{'s' if rows > 1 else ''} to data.max_length"
            loss = f"{lost:.2g} % of the target tokens lost" if lost else "no target token lost"
            truncated.append(f"{text} ({loss})")
    entries = [
        ("left out", _by_code(report.rejected)),
        ("fixed", _by_code(report.fixed)),
        ("truncated", "; ".join(truncated)),
        ("windows", _more(report, "further_windows", "plain text longer than data.max_length is cut into windows")),
        ("turns", _more(report, "further_turns", "conversations have a sequence for each trained turn")),
        ("fallback", _fallback(report)),
    ]
    return [(name, text) for name, text in entries if text]


def _more(report: DataReport, key: str, why: str) -> str:
    """Return how many sequences each split has beyond one of each row."""
    splits = [f"{part[key]:,} more {part['split']} sequences" for part in report.encoded if part.get(key)]
    return f"{', '.join(splits)}: {why}" if splits else ""


def _fallback(report: DataReport) -> str:
    """Return what the chat template cannot write and is written in another form."""
    names = dict.fromkeys(name for part in report.encoded for name in part.get("fallback") or ())
    if not names:
        return ""
    why = "not supported by the model's chat template; written in another form, which is saved with the model"
    return f"{', '.join(names)}: {why}"


def describe_warnings(report: DataReport) -> list[tuple[str, str]]:
    """Return `(severity, text)` of each warning of the data, with its place; the fix is on a line of its own."""
    texts = []
    for fault in report.warnings:
        place = f"{fault_location(fault)}: " if fault_location(fault) else ""
        text = f"{fault['code']}: {place}{fault['message']}\n{'':<10} fix: {fault['fix']}"
        texts.append((fault["severity"], text))
    return texts


def fault_location(fault: Mapping[str, Any]) -> str:
    """Return `file:row:column` of a fault in the report."""
    return Fault("", "", "", fault["file"], fault["row"], fault["column"]).where


def describe_schema(report: DataReport) -> str:
    """Return the detected schemas with their row counts, and the fields that the model is not shown."""
    several = len(report.schemas) > 1
    words = "; ".join(
        f"{source + ': ' if several else ''}{name}, {count:,} rows"
        for source, names in report.schemas.items()
        for name, count in names.items()
    )
    return f"{words}; not shown to the model: {list_counts(report.unused)}" if report.unused else words


def describe_files(report: DataReport) -> list[tuple[str, str]]:
    """Return `("read as", how)` for files whose delimiter, encoding or the like was detected, alike ones together."""
    names: dict[tuple[str, ...], list[str]] = {}
    for file, notes in report.notes.items():
        names.setdefault(tuple(notes), []).append(Path(file).name)
    return [
        ("read as", f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}: {', '.join(notes)}")
        for notes, files in names.items()
    ]


def describe_split(report: DataReport) -> str:
    """Return in words how the rows were split."""
    how = report.split
    shares = ", ".join(f"{ratio:g}" for ratio in how.ratios)
    words = ["given by the files" if report.split_given else f"shares {shares}; seed {how.seed}"]
    if not report.split_given or how.folds:
        words += [f"{word} by {getattr(how, key)}" for key, word in _HOW.items() if getattr(how, key)]
    if how.folds:
        role = "is held out" if how.held_out == "test" else "validates"
        words.append(f"fold {how.fold} of 0 to {how.folds - 1} {role}")
    return "; ".join(words)


_HOW = {"group": "grouped", "stratify": "stratified", "time": "ordered"}


def _by_code(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    total = sum(counts.values())
    return f"{total:,} row{'s' if total > 1 else ''}: " + ", ".join(f"{code} {count:,}" for code, count in ordered)


def describe_targets(options: DataOptions) -> str:
    """Return in words what is trained on."""
    if options.rows == "prompts":
        return "generated completions; those of the rows are references for the rewards"
    if options.rows != "completions":
        reasoning = "" if options.train_on_reasoning else " without its reasoning"
        return f"each completion{reasoning}; the turns before it are context"
    turns = {"all": "all assistant turns", "calls": "turns with calls", "answers": "turns without calls"}
    reasoning = "with their reasoning" if options.train_on_reasoning else "without their reasoning"
    earlier = {"template": "as the chat template writes it", "keep": "kept", "drop": "dropped"}
    return f"{turns[options.train_on]} {reasoning}; reasoning of earlier turns: {earlier[options.earlier_reasoning]}"


def describe_preferences(report: DataReport) -> str:
    """Return how many prompts, completions and pairs there are; "" without preferences."""
    return ", ".join(f"{count:,} {name}" for name, count in (report.preferences or {}).items())


TARGET = "bold green"
REJECTED = "bold red"  # a completion that is undesired, or worse than another
REFERENCE = "bold"  # a completion that is not trained on
CONTEXT = "dim"
CONTROL = " underline"  # marks a control token, unlike a text that contains its string


def show_examples(encoded: Encoded, tokenizer: Any, count: int = 3, *, trains: bool = True) -> list[Text]:
    """Return the first `count` examples as the model sees them: targets bold and green, control tokens underlined.

    The completions of a prompt follow it, with their scores; those that are undesired, or worse than another, are red.
    Without `trains` the completions are references that rewards compare with, and only bold.
    """
    starts = encoded.starts.tolist()
    texts = []
    for start, end in list(zip(starts, [*starts[1:], len(encoded)], strict=True))[: max(count, 0)]:
        best = encoded.examples[start].score
        texts.append(_shown(encoded, tokenizer, start, best, alone=end - start == 1, trains=trains))
        for i in range(start + 1, end):
            texts[-1].append("\n").append(_shown(encoded, tokenizer, i, best, alone=False, is_first=False))
    return texts


def _shown(
    encoded: Encoded,
    tokenizer: Any,
    i: int,
    best: float | None,
    *,
    alone: bool,
    is_first: bool = True,
    trains: bool = True,
) -> Text:
    """Return a sequence as the model sees it; without the prompt if it is not the first completion of it."""
    from rich.text import Text

    special = set(tokenizer.all_special_ids)
    score = encoded.examples[i].score
    weight = "" if encoded.weights is None else f" with weight {encoded.weights[i]:g}"
    name = encoded.ids[i].as_py() if is_first else " " * 16
    judgement, target = "", TARGET if trains else REFERENCE
    if score is not None and best is not None:
        is_good = score > 0 if alone else score == best
        judgement = ("desired: " if is_good else "undesired: ") if alone else f"score {score:g}: "
        target = TARGET if is_good else REJECTED
    marks = encoded.targets(i).tolist()
    marked = list(zip(encoded.tokens(i).tolist(), marks, strict=True))[0 if is_first else marks.index(True) :]
    use = f"{encoded.target_counts[i]} {'trained on' if trains else 'in the reference'}"
    counts = f"{encoded.lengths[i]} tokens, {use}{weight}"
    if not encoded.examples[i].is_answered:  # what follows the prompt stands in for a completion
        while marked and marked[-1][1]:
            marked.pop()
        counts = f"{len(marked)} tokens, a prompt without completion"
    text = Text(f"{name}  {judgement}{counts}\n")
    for (is_target, is_control), run in groupby(marked, key=lambda pair: (pair[1], pair[0] in special)):
        piece = tokenizer.decode([token for token, _ in run], skip_special_tokens=False)
        text.append(printable(piece), style=(target if is_target else CONTEXT) + (CONTROL if is_control else ""))
    return text
