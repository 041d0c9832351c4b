"""The data report: data_report.html, .md and .json, with every fault and every rejected row beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.data.encode import Encoded
from kamerton.data.example import DataExample
from kamerton.data.gate import Prepared
from kamerton.data.outliers import length_summary
from kamerton.data.rows import LOGS
from kamerton.errors import Fault

SAMPLE, LONGEST_TEXT = 3, 600  # examples shown of each split, characters of each text


def write_report(prepared: Prepared, folder: Path, encoded: Mapping[str, Encoded] | None = None) -> Path:
    """Writes the report, faults.jsonl and rejects.jsonl into `folder`; returns the path of the page.

    With `encoded` (by split) it tells of tokens as well. The page holds no script and refers to nothing outside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = prepared.report | {"sample": _sample(prepared)} | _tokens(encoded or {})
    contents = _contents(report)
    (folder / "data_report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), "utf-8")
    (folder / "data_report.md").write_text(_environment(False).get_template("data.md.j2").render(contents), "utf-8")
    page = folder / "data_report.html"
    page.write_text(_environment(True).get_template("data.html.j2").render(contents), "utf-8")
    for name in LOGS:
        shutil.copyfile(prepared.folder / name, folder / name)
    return page


def manifest(prepared: Prepared) -> dict[str, Any]:
    """What `run.json` says of the data: fingerprints, counts and how they were split."""
    report = prepared.report
    chosen = ("name", "fingerprint", "counts", "rejected", "fixed", "seed", "split", "balance", "labels", "leakage")
    splits = {name: examples.fingerprint for name, examples in prepared.splits.items()}
    return {key: report[key] for key in chosen} | {"splits": splits, "warnings": report["warnings"]}


def _sample(prepared: Prepared) -> dict[str, list[dict[str, str]]]:
    """The first examples of each split; their order is that of a hash, so they are a random sample."""
    return {name: [_shown(example) for example in part[:SAMPLE]] for name, part in prepared.splits.items()}


def _shown(example: DataExample) -> dict[str, str]:
    turns = example.prompt
    prompt = turns if isinstance(turns, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
    return {"prompt": prompt[:LONGEST_TEXT], "completion": example.completion[:LONGEST_TEXT]}


def _tokens(encoded: Mapping[str, Encoded]) -> dict[str, Any]:
    if not encoded:
        return {}
    lengths = np.concatenate([part.lengths for part in encoded.values()])
    return {"tokens": length_summary(lengths), "encoded": [part.report for part in encoded.values()]}


def _contents(report: dict[str, Any]) -> dict[str, Any]:
    """What the templates show, as rows of tables."""
    counts, splits = report["counts"], list(report["sample"])
    read, kept = counts["rows read"], sum(counts[name] for name in splits)
    rejected = sum(report["rejected"].values())
    found = {code: count for _, code, count in report["fault_counts"]}
    return {
        "title": report["name"],
        "headline": f"{read:,} rows read, {rejected:,} left out, {sum(report['fixed'].values()):,} mended.",
        "facts": [
            *((name, counts[name]) for name in splits),
            ("seed", report["seed"]),
            ("data", report["fingerprint"]),
        ],
        "stages": [*counts.items(), *((f"left out: {code}", n) for code, n in report["rejected"].items())],
        "files": list(report["files"].items()),
        "schemas": [(name, n) for schemas in report["schemas"].values() for name, n in schemas.items()],
        "faults": [fault | {"where": Fault(**fault).where} for fault in report["faults"]],
        "fault_counts": [(c, n, report["rejected"].get(c, 0), report["fixed"].get(c, 0)) for c, n in found.items()],
        "characters": report["lengths"],
        "tokens": report.get("tokens"),
        "encoded": [[part[key] for key in _ENCODED] for part in report.get("encoded", [])],
        "labels": _label_rows(report, splits),
        "splits": splits,
        "duplicates": _duplicates(report),
        "clusters": report.get("near_duplicates", {}).get("largest", []),
        "sample": report["sample"],
        "kept": kept,
    }


_ENCODED = (
    *("split", "examples", "tokens", "target_tokens", "longest"),
    *("dropped", "truncated", "lost_target_percent"),
)


def _label_rows(report: dict[str, Any], splits: list[str]) -> list[list[Any]]:
    if not report["labels"]:
        return []
    counts = report["label_distribution"]
    return [[label, *(counts[name].get(label, 0) for name in splits)] for label in report["labels"]]


def _duplicates(report: dict[str, Any]) -> list[tuple[str, int]]:
    near = report.get("near_duplicates", {})
    rows = [("exact duplicates", report["counts"]["exact duplicates removed"])]
    if near:
        rows.append((f"in {near['clusters']} clusters of near duplicates", near["rows"]))
    for kind, found in report["leakage"].items():
        rows += [(f"{kind} leakage between {pair}", n) for pair, n in found.items()]
    return rows


def _environment(escaped: bool) -> Any:
    import jinja2

    from kamerton.decide.report import plain

    loaders = [jinja2.PackageLoader("kamerton.data"), jinja2.PackageLoader("kamerton.decide")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=escaped,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=plain, line=_line)
    return environment


def _line(text: object) -> str:
    """Data as one line of Markdown that cannot become markup."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|#" else character for character in line)
