"""The data stage for the terminal: rows dropped, repaired or truncated, and encoded examples in colour."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from kamerton.data.read.unused import listed
from kamerton.errors import Fault
from kamerton.output import printable

if TYPE_CHECKING:
    from rich.text import Text

    from kamerton.data.encode.arrays import Encoded


def losses(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """`(left out | mended | truncated, what and why)` of a data report; empty if every row went on as it was."""
    found = [("left out", _by_code(report["rejected"])), ("mended", _by_code(report["fixed"]))]
    cut = [_truncated(part) for part in report.get("encoded", []) if part["truncated"]]
    return [(name, text) for name, text in [*found, ("truncated", "; ".join(cut))] if text]


def where(fault: Mapping[str, Any]) -> str:
    """`file:row:column` of a fault of the report."""
    return Fault("", "", "", fault["file"], fault["row"], fault["column"]).where


def schema_words(report: Mapping[str, Any]) -> str:
    """What the columns were found to mean, of all rows, and which fields mean nothing to the model."""
    several = len(report["schemas"]) > 1
    words = "; ".join(
        f"{source + ': ' if several else ''}{name}, {count:,} rows"
        for source, names in report["schemas"].items()
        for name, count in names.items()
    )
    return f"{words}; not shown to the model: {listed(report['unused'])}" if report["unused"] else words


def split_words(report: Mapping[str, Any]) -> str:
    """How the rows were split."""
    how = report["split"]
    shares = ", ".join(f"{ratio:g}" for ratio in how["ratios"])
    words = ["given by the files" if report["split_given"] else f"shares {shares}; seed {how['seed']}"]
    if not report["split_given"] or how["folds"]:
        words += [f"{word} by {how[key]}" for key, word in _HOW.items() if how[key]]
    if how["folds"]:
        role = "is held out" if how["held_out"] == "test" else "validates"
        words.append(f"fold {how['fold']} of 0 to {how['folds'] - 1} {role}")
    return "; ".join(words)


_HOW = {"group": "grouped", "stratify": "stratified", "time": "ordered"}


def _by_code(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    total = sum(counts.values())
    return f"{total:,} row{'s' if total > 1 else ''}: " + ", ".join(f"{code} {count:,}" for code, count in ordered)


def _truncated(part: Mapping[str, Any]) -> str:
    rows = part["truncated"]
    text = f"{rows:,} {part['split']} row{'s' if rows > 1 else ''} to data.max_length"
    lost = part["lost_target_percent"]
    return f"{text} ({lost:.2g} % of the target tokens lost)" if lost else f"{text} (no target token lost)"


TARGET = "bold green"


READ = "dim"


CONTROL = " underline"  # a control token, as against a text that holds its string


def show(encoded: Encoded, tokenizer: Any, count: int = 3) -> list[Text]:
    """The first `count` examples as the model sees them: targets bold and green, control tokens underlined."""
    return [_shown(encoded, tokenizer, i) for i in range(len(encoded))[: max(count, 0)]]


def _shown(encoded: Encoded, tokenizer: Any, i: int) -> Text:
    from rich.text import Text

    text = Text(f"{encoded.ids[i].as_py()}  {encoded.lengths[i]} tokens, {encoded.target_counts[i]} trained on\n")
    special = set(tokenizer.all_special_ids)
    marked = zip(encoded.tokens(i).tolist(), encoded.targets(i).tolist(), strict=True)
    for (target, control), run in groupby(marked, key=lambda pair: (pair[1], pair[0] in special)):
        piece = tokenizer.decode([token for token, _ in run], skip_special_tokens=False)
        text.append(printable(piece), style=(TARGET if target else READ) + (CONTROL if control else ""))
    return text
