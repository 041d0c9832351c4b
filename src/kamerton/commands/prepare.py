"""`kamerton prepare`: the data gate alone. Reads, checks, splits and encodes, then reports; trains nothing."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.config.check import check_values
from kamerton.config.command import run_command
from kamerton.config.flags import reject_flag
from kamerton.config.hosted import is_hosted
from kamerton.config.jobs import JobRequest
from kamerton.console import plain_console
from kamerton.data.summary import losses, schema_words, split_words, where
from kamerton.errors import Fault, UserError
from kamerton.output import echo, print_faults
from kamerton.pipeline.check import data_faults

if TYPE_CHECKING:
    from rich.console import Console

    from kamerton.config.schema import Config
    from kamerton.data.gate import DataError


HELP = """\
kamerton prepare: read, check, split and encode the data as a training would, and report; trains nothing.
Usage: kamerton prepare [key=value ...] [--show N]

  kamerton prepare data=csv data.path=raw.csv      every fault of the data, or a report of what would be trained on
  kamerton prepare data=csv data.path=raw.csv --show 3
                                                   also N examples, with what is trained on in colour

The keys are those of kamerton train (data, split and model matter): kamerton train --help
"""


def prepare_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and the data report; returns the exit code."""
    parser = argparse.ArgumentParser("kamerton prepare", add_help=False)
    parser.add_argument("--show", type=int, default=0, metavar="N")
    parser.add_argument("-h", "--help", action="store_true")
    parser.error = partial(reject_flag, command="prepare")  # type: ignore[method-assign]
    try:
        own, others = parser.parse_known_args(list(arguments))
    except UserError as error:
        print_faults(error.faults)
        return 2
    if own.help:
        print(HELP)
        return 0
    pages: list[Path] = []  # of data that cannot be used
    code = run_command(others, partial(_prepare, shown=own.show), partial(_preflight, pages=pages))
    for page in pages:
        for line in _files(page):
            echo(line, err=True)
    return code


def _preflight(values: dict[str, Any], sections: Collection[str], *, pages: list[Path]) -> list[Fault]:
    """Faults of the data, and of the model's name, whose tokenizer encodes them."""
    if not {"data", "split", "model"} & set(sections):
        return []
    from kamerton.run.model import model_faults

    unknown = [] if is_hosted(values) else model_faults(values)
    return [*unknown, *data_faults(values, partial(_listed, values=values, pages=pages))]


def _listed(error: DataError, *, values: dict[str, Any], pages: list[Path]) -> list[Fault]:
    """The faults of data that cannot be used, as they point to its report, whose path is added to `pages`."""
    from kamerton.data.report import relisted

    written = _write_refusal(error, values)
    pages.extend(written)
    return relisted(error.faults, error.folder, written[0].parent) if written else list(error.faults)


def _write_refusal(refused: DataError, values: dict[str, Any]) -> list[Path]:
    """The report of data that cannot be used; none if the folder for it has faults itself."""
    from kamerton.data.report import write_refusal

    if any(fault.column in ("name", "paths", "paths.outputs") for fault in check_values(values)):
        return []
    return [write_refusal(refused, _folder(values["paths"]["outputs"], values["name"], refused.folder))]


def _folder(outputs: str, name: str, asked: Path) -> Path:
    """Where the report of a data set goes: the same files and options have the same place."""
    return Path(outputs).absolute() / name / f"data-{asked.name[:8]}"


def _prepare(request: JobRequest[Config], *, shown: int) -> None:
    """Prepare, encode for the configured model, write the report beside the run directories, show examples."""
    from kamerton.data.inputs import load_inputs
    from kamerton.data.report import write_report
    from kamerton.data.summary import show

    config = request.options
    if config.model.provider:
        message = "kamerton prepare encodes data for a model that is here, and this one is hosted"
        fix = "kamerton train … model.dry_run=true checks what would be sent, and what it would cost"
        raise UserError([Fault("hosted.option", message, fix, column="model")])
    console = plain_console()
    inputs = load_inputs(config.data, config.split, config.model)
    page = write_report(inputs.prepared, _folder(config.paths.outputs, config.name, inputs.prepared.folder))
    for text in show(inputs.encoded["train"], inputs.tokenizer, shown):
        console.print(text)
    _say(console, inputs.prepared.report)
    for line in _files(page):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _say(console: Console, report: dict[str, Any]) -> None:
    """Counts by stage, how rows were split, what was left out, mended and cut, and the first warning of each code."""
    from rich.table import Table

    table = Table("stage", "rows", title=f"Data {report['name']}")
    for name, count in report["counts"].items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    for name, text in [("schema", schema_words(report)), ("split", split_words(report)), *losses(report)]:
        console.print(f"{name:<10} {text}", highlight=False, markup=False, soft_wrap=True)
    for fault in report["warnings"]:
        place = f"{where(fault)}: " if where(fault) else ""
        text = f"{fault['severity']:<10} {fault['code']}: {place}{fault['message']}\n{'':<10} fix: {fault['fix']}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _files(page: Path) -> list[str]:
    """Where a person finds the report, every fault, and every row that was dropped or mended."""
    names = {"report": page.name, "faults": "faults.jsonl", "rejects": "rejects.jsonl"}
    return [f"{what:<10} {page.with_name(name)}" for what, name in names.items()]
