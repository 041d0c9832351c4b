"""The data report: data_report.html, .md and .json, with the lists of faults and rejected rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from kamerton.data.data_report import DataReport
from kamerton.data.example import DataExample
from kamerton.data.gate import DataError, Prepared
from kamerton.data.read.columns.unused import list_counts
from kamerton.data.read.rows import LOGS
from kamerton.data.summary import data_losses, describe_files, describe_preferences, describe_split, fault_location
from kamerton.errors import Fault

Sample = dict[str, list[dict[str, Any]]]  # prompts and completions by split

MAX_EXAMPLES, MAX_CHARACTERS = 3, 600  # examples shown of each split, characters of each text


def write_report(prepared: Prepared, folder: Path) -> Path:
    """Write the report, faults.jsonl and rejects.jsonl into `folder`; return the path of the HTML page.

    The page is self-contained and has no script. It includes token counts if `prepared` is from `load_inputs`.
    """
    sample = {  # examples are ordered by hash, so the first are a random sample
        name: [_sample(example) for example in examples[:MAX_EXAMPLES]] for name, examples in prepared.splits.items()
    }
    return _write(prepared.facts, sample, prepared.folder, folder)


def _sample(example: DataExample) -> dict[str, Any]:
    """Return the texts of an example, cut; of preferences the score of the completion, and the others with theirs."""
    texts = {"prompt": example.prompt_text[:MAX_CHARACTERS], "completion": example.completion[:MAX_CHARACTERS]}
    if example.score is None:
        return texts
    others = [{"score": o.score, "completion": o.completion[:MAX_CHARACTERS]} for o in example.alternatives]
    return {**texts, "score": example.score, "others": others}


def write_refusal(error: DataError, folder: Path) -> Path:
    """Write the same files for data that cannot be used: the stages that ran, and all faults."""
    return _write(error.facts, {}, error.folder, folder)


def with_listing(faults: Iterable[Fault], logs: Path, folder: Path) -> list[Fault]:
    """Return the faults with `folder` in place of `logs` as the place of the full list in their fixes."""
    before, after = str(logs / LOGS[0]), str(folder / LOGS[0])
    return [replace(fault, fix=fault.fix.replace(before, after)) for fault in faults]


def _write(report: DataReport, sample: Sample, logs: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    report = replace(report, faults=with_listing(report.faults, logs, folder))
    contents = _template_values(report, sample)
    text = json.dumps(report.to_json() | {"sample": sample}, indent=1, ensure_ascii=False)
    (folder / "data_report.json").write_text(text, "utf-8")
    (folder / "data_report.md").write_text(_environment(False).get_template("data.md.j2").render(contents), "utf-8")
    page = folder / "data_report.html"
    page.write_text(_environment(True).get_template("data.html.j2").render(contents), "utf-8")
    for name in LOGS:
        shutil.copyfile(logs / name, folder / name)
    return page


def manifest(prepared: Prepared) -> dict[str, Any]:
    """Return the entry `data` of run.json: fingerprints, counts and how the rows were split."""
    report = prepared.facts.to_json()
    keys = ("name", "fingerprint", "counts", "rejected", "fixed", "seed", "split", "balance", "labels", "leakage")
    splits = {name: examples.fingerprint for name, examples in prepared.splits.items()}
    more = {
        "form": report["form"],
        "splits": splits,
        "warnings": prepared.facts.warnings,
        "encoded": prepared.facts.encoded,
    }
    more |= {key: report[key] for key in ("versions", "preferences") if key in report}
    return {key: report[key] for key in keys} | more


def _template_values(report: DataReport, sample: Sample) -> dict[str, Any]:
    """Return the values of the templates, mostly rows of tables."""
    counts, splits, labels = report.counts, list(sample), report.label_distribution
    return {
        "title": report.name,
        "valid": report.valid,
        "headline": _headline(report),
        "left_out": sum(report.rejected.values()),
        "facts": [
            *((name, counts[name]) for name in splits),
            *([("preferences", describe_preferences(report))] if report.preferences else []),
            *describe_files(report),
            ("split", describe_split(report)),
            *((name, text) for name, text in data_losses(report) if name in ("windows", "turns", "fallback")),
            *([("not shown to the model", list_counts(report.unused))] if report.unused else []),
            *([("data", report.fingerprint)] if report.fingerprint else []),
        ],
        "stages": [
            *((name, n) for name, n in counts.items() if name in _BEFORE),
            *((f"left out: {code}", n) for code, n in report.rejected.items()),
            *((name, n) for name, n in counts.items() if name not in (*_BEFORE, "exact duplicates removed")),
        ],
        "files": [(name, ", ".join(report.notes.get(name, [])), rows) for name, rows in report.files.items()],
        "schemas": [(f"{source}: {name}", n) for source, names in report.schemas.items() for name, n in names.items()],
        "faults": [*(fault.as_dict() for fault in report.faults if fault.severity == "error"), *report.warnings],
        "fault_counts": [
            (code, severity, n, report.rejected.get(code, 0), report.fixed.get(code, 0))
            for severity, code, n in report.fault_counts
        ],
        "characters": report.lengths,
        "tokens": report.tokens,
        "encoded": [[part[key] for key in _ENCODED] for part in report.encoded],
        "labels": [[label, *(labels[name].get(label, 0) for name in splits)] for label in report.labels or []]
        if labels
        else [],
        "splits": splits,
        "duplicates": _duplicate_rows(report),
        "clusters": (report.near_duplicates or {}).get("largest", []),
        "sample": sample,
    }


_BEFORE = ("rows read", "usable", "distinct")
_ENCODED = (
    *("split", "examples", "tokens", "target_tokens", "longest"),
    *("dropped", "truncated", "lost_target_percent"),
)


def _headline(report: DataReport) -> str:
    rejected, fixed = sum(report.rejected.values()), sum(report.fixed.values())
    counts = f"{report.counts['rows read']:,} rows read, {rejected:,} left out, {fixed:,} fixed."
    if report.valid:
        return counts
    errors = sum(n for severity, _, n in report.fault_counts if severity == "error")
    return f"The data cannot be used as they are: {errors:,} error{'s' if errors > 1 else ''}. {counts}"


def _duplicate_rows(report: DataReport) -> list[tuple[str, int]]:
    near = report.near_duplicates
    rows = [("exact duplicates", report.counts.get("exact duplicates removed", 0))]
    if near:
        clusters = near["clusters"]
        place = f", in {clusters:,} cluster{'' if clusters == 1 else 's'}" if clusters else ""
        rows.append((f"near duplicates{place}", near["rows"]))
    for kind, pairs in report.leakage.items():
        rows += [(f"{kind} leakage between {pair}", n) for pair, n in pairs.items()]
    return rows


@cache
def _environment(escaped: bool) -> Any:
    """Templates are compiled once in a process."""
    import jinja2

    from kamerton.report.pages import plain

    loaders = [jinja2.PackageLoader("kamerton.data"), jinja2.PackageLoader("kamerton.report")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=escaped,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=plain, line=_markdown_line, where=fault_location)
    return environment


def _markdown_line(text: object) -> str:
    """Return data as one line of Markdown, with markup escaped."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|#" else character for character in line)
