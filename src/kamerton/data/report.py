"""The data report: data_report.html, .md and .json, with every fault and every rejected row beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kamerton.data.example import DataExample
from kamerton.data.gate import DataError, Prepared
from kamerton.data.read.rows import LOGS
from kamerton.data.read.unused import listed
from kamerton.data.summary import split_words, where
from kamerton.errors import Fault

SAMPLE, LONGEST_TEXT = 3, 600  # examples shown of each split, characters of each text


def write_report(prepared: Prepared, folder: Path) -> Path:
    """Writes the report, faults.jsonl and rejects.jsonl into `folder`; returns the path of the page.

    The page holds no script and refers to nothing outside it. It tells of tokens if `prepared` is from `load_inputs`.
    """
    return _write(prepared.report | {"sample": _sample(prepared)}, prepared.folder, folder)


def write_refusal(refused: DataError, folder: Path) -> Path:
    """The same of data that cannot be used: how far they came, and all that is wrong with them."""
    return _write(refused.report | {"sample": {}}, refused.folder, folder)


def relisted(faults: Iterable[Fault], logs: Path, folder: Path) -> list[Fault]:
    """The faults with the lists in `folder` where they name those in `logs`, which `folder` has copies of."""
    before, after = str(logs / LOGS[0]), str(folder / LOGS[0])
    return [replace(fault, fix=fault.fix.replace(before, after)) for fault in faults]


def _write(report: dict[str, Any], logs: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    faults = relisted((Fault(**fault) for fault in report["faults"]), logs, folder)
    report = report | {"faults": [fault.as_dict() for fault in faults]}
    contents = _contents(report)
    (folder / "data_report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), "utf-8")
    (folder / "data_report.md").write_text(_environment(False).get_template("data.md.j2").render(contents), "utf-8")
    page = folder / "data_report.html"
    page.write_text(_environment(True).get_template("data.html.j2").render(contents), "utf-8")
    for name in LOGS:
        shutil.copyfile(logs / name, folder / name)
    return page


def manifest(prepared: Prepared) -> dict[str, Any]:
    """What `run.json` says of the data: fingerprints, counts and how they were split."""
    report = prepared.report
    chosen = ("name", "fingerprint", "counts", "rejected", "fixed", "seed", "split", "balance", "labels", "leakage")
    splits = {name: examples.fingerprint for name, examples in prepared.splits.items()}
    more = {"splits": splits, "warnings": report["warnings"], "encoded": report.get("encoded", [])}
    return {key: report[key] for key in chosen} | more


def _sample(prepared: Prepared) -> dict[str, list[dict[str, str]]]:
    """The first examples of each split; their order is that of a hash, so they are a random sample."""
    return {name: [_shown(example) for example in part[:SAMPLE]] for name, part in prepared.splits.items()}


def _shown(example: DataExample) -> dict[str, str]:
    return {"prompt": example.prompt_text[:LONGEST_TEXT], "completion": example.completion[:LONGEST_TEXT]}


def _contents(report: dict[str, Any]) -> dict[str, Any]:
    """What the templates show, as rows of tables."""
    counts, splits = report["counts"], list(report["sample"])
    return {
        "title": report["name"],
        "valid": report["valid"],
        "headline": _headline(report),
        "facts": [
            *((name, counts[name]) for name in splits),
            ("split", split_words(report)),
            *([("not shown to the model", listed(report["unused"]))] if report["unused"] else []),
            *([("data", report["fingerprint"])] if report["fingerprint"] else []),
        ],
        "stages": [
            *((name, n) for name, n in counts.items() if name in _BEFORE),
            *((f"left out: {code}", n) for code, n in report["rejected"].items()),
            *((name, n) for name, n in counts.items() if name not in (*_BEFORE, "exact duplicates removed")),
        ],
        "files": list(report["files"].items()),
        "schemas": [
            (f"{source}: {name}", n) for source, found in report["schemas"].items() for name, n in found.items()
        ],
        "faults": [*(fault for fault in report["faults"] if fault["severity"] == "error"), *report["warnings"]],
        "fault_counts": [
            (code, severity, n, report["rejected"].get(code, 0), report["fixed"].get(code, 0))
            for severity, code, n in report["fault_counts"]
        ],
        "characters": report["lengths"],
        "tokens": report.get("tokens"),
        "encoded": [[part[key] for key in _ENCODED] for part in report.get("encoded", [])],
        "labels": _label_rows(report, splits),
        "splits": splits,
        "duplicates": _duplicates(report),
        "clusters": report.get("near_duplicates", {}).get("largest", []),
        "sample": report["sample"],
    }


_BEFORE = ("rows read", "usable", "distinct")
_ENCODED = (
    *("split", "examples", "tokens", "target_tokens", "longest"),
    *("dropped", "truncated", "lost_target_percent"),
)


def _headline(report: dict[str, Any]) -> str:
    rejected, fixed = (sum(report[key].values()) for key in ("rejected", "fixed"))
    counted = f"{report['counts']['rows read']:,} rows read, {rejected:,} left out, {fixed:,} mended."
    if report["valid"]:
        return counted
    errors = sum(n for severity, _, n in report["fault_counts"] if severity == "error")
    return f"The data cannot be used as they are: {errors:,} error{'s' if errors > 1 else ''}. {counted}"


def _label_rows(report: dict[str, Any], splits: list[str]) -> list[list[Any]]:
    if not report["label_distribution"]:
        return []
    counts = report["label_distribution"]
    return [[label, *(counts[name].get(label, 0) for name in splits)] for label in report["labels"]]


def _duplicates(report: dict[str, Any]) -> list[tuple[str, int]]:
    near = report.get("near_duplicates", {})
    rows = [("exact duplicates", report["counts"].get("exact duplicates removed", 0))]
    if near:
        rows.append((f"in {near['clusters']} clusters of near duplicates", near["rows"]))
    for kind, found in report["leakage"].items():
        rows += [(f"{kind} leakage between {pair}", n) for pair, n in found.items()]
    return rows


def _environment(escaped: bool) -> Any:
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
    environment.filters.update(plain=plain, line=_line, where=where)
    return environment


def _line(text: object) -> str:
    """Data as one line of Markdown that cannot become markup."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|#" else character for character in line)
