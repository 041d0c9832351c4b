"""`kamerton prepare`: read, check, split and encode the data, and report; trains nothing."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.config.check import check_values
from kamerton.config.command import run_command
from kamerton.config.flags import non_negative, reject_flag
from kamerton.config.hosted import is_hosted
from kamerton.config.jobs import JobRequest
from kamerton.console import plain_console
from kamerton.data.summary import (
    data_losses,
    describe_files,
    describe_preferences,
    describe_schema,
    describe_split,
    describe_warnings,
)
from kamerton.errors import Fault, UserError
from kamerton.output import echo, print_faults
from kamerton.pipeline.check import data_faults

if TYPE_CHECKING:
    from rich.console import Console

    from kamerton.config.schema import Config
    from kamerton.data.data_report import DataReport
    from kamerton.data.gate import DataError
    from kamerton.data.inputs import Inputs
    from kamerton.data.options import DataOptions


HELP = """\
kamerton prepare: read, check, split and encode the data as kamerton train does, and report; trains nothing.
Usage: kamerton prepare [key=value ...] [--show N] [--parity]

  kamerton prepare data.path=raw.csv               every fault of the data, or a report of the training data
  kamerton prepare data.path=raw.csv --show 3      also N examples, with the trained tokens in colour
  kamerton prepare data.path=raw.csv --parity      also compare the trained tokens of every row with those at inference

The keys are those of kamerton train (data, split and model matter): kamerton train --help
"""


def prepare_command(arguments: Sequence[str]) -> int:
    """Run `kamerton prepare` with these arguments; return the exit code."""
    parser = argparse.ArgumentParser("kamerton prepare", add_help=False)
    parser.add_argument("--show", type=non_negative, default=0, metavar="N")
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    parser.error = partial(reject_flag, command="prepare")  # type: ignore[method-assign]
    try:
        options, overrides = parser.parse_known_args(list(arguments))
    except UserError as error:
        print_faults(error.faults)
        return 2
    if options.help:
        print(HELP)
        return 0
    pages: list[Path] = []  # reports of data that cannot be used
    code = run_command(
        overrides, partial(_prepare, examples=options.show, parity=options.parity), partial(_preflight, pages=pages)
    )
    for page in pages:
        for line in _files(page):
            echo(line, err=True)
    return code


def _preflight(values: dict[str, Any], sections: Collection[str], *, pages: list[Path]) -> list[Fault]:
    """Return the faults of the data, and of the model's name, whose tokenizer encodes them."""
    if not {"data", "split", "model"} & set(sections):
        return []
    from kamerton.run.model import model_faults

    faults = [] if is_hosted(values) else model_faults(values)
    return [*faults, *data_faults(values, partial(_report_refusal, values=values, pages=pages))]


def _report_refusal(error: DataError, *, values: dict[str, Any], pages: list[Path]) -> list[Fault]:
    """Write the report of data that cannot be used, add its path to `pages`, and return the faults that refer to it.

    Nothing is written if the report's folder has faults itself.
    """
    from kamerton.data.report import with_listing, write_refusal

    if any(fault.column in ("name", "paths", "paths.outputs") for fault in check_values(values)):
        return list(error.faults)
    page = write_refusal(error, _folder(values["paths"]["outputs"], values["name"], error.folder))
    pages.append(page)
    return with_listing(error.faults, error.folder, page.parent)


def _folder(outputs: str, name: str, cache_entry: Path) -> Path:
    """Return the folder of a data report; it is the same for the same files and options."""
    return Path(outputs).absolute() / name / f"data-{cache_entry.name[:8]}"


def _prepare(request: JobRequest[Config], *, examples: int, parity: bool) -> None:
    """Prepare and encode the data, write the report beside the run directories, and print it with some examples.

    With `parity`, raises `UserError` for rows whose trained tokens are not those at inference.
    """
    from kamerton.data.inputs import load_inputs
    from kamerton.data.report import write_report
    from kamerton.data.summary import describe_targets, show_examples

    config = request.options
    if config.model.provider:
        message = "kamerton prepare encodes data for a local model, and this one is hosted"
        fix = "kamerton train … model.dry_run=true checks what would be sent, and what it would cost"
        raise UserError([Fault("hosted.option", message, fix, column="model")])
    console = plain_console()
    inputs = load_inputs(config.data, config.split, config.model)
    page = write_report(inputs.prepared, _folder(config.paths.outputs, config.name, inputs.prepared.folder))
    if examples:
        console.print(f"{'targets':<10} {describe_targets(config.data)}", highlight=False, soft_wrap=True)
    trains = config.data.rows != "prompts"
    for text in show_examples(inputs.encoded["train"], inputs.tokenizer, examples, trains=trains):
        console.print(text)
    _print_summary(console, config.name, inputs.prepared.facts)
    if parity:
        _print_parity(console, inputs, config.data)
    for line in _files(page):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_parity(console: Console, inputs: Inputs, options: DataOptions) -> None:
    """Compare the trained tokens of every row with those at inference, and print the number of equal turns."""
    from kamerton.data.encode.parity import Parity, check_parity
    from kamerton.data.encode.tokenize import StretchTokenizer
    from kamerton.data.faults import FaultLog
    from kamerton.data.inputs import targets_of

    stretches = StretchTokenizer(inputs.tokenizer, options.control_tokens, targets_of(options))
    parity = Parity()
    for encoded in inputs.encoded.values():
        check_parity(encoded, stretches, parity)
    console.print(f"{'parity':<10} {parity.describe()}", highlight=False, markup=False, soft_wrap=True)
    log = FaultLog(options.policy)
    for fault in parity.faults:
        log.add(fault)
    log.raise_errors()
    for fault in log.grouped():
        console.print(f"{fault.where}: {fault.message}", highlight=False, markup=False, soft_wrap=True)


def _print_summary(console: Console, name: str, report: DataReport) -> None:
    """Print the counts by stage, schema, splits, dropped, repaired and truncated rows, and warnings of `name`."""
    from rich.table import Table

    table = Table("stage", "rows", title=f"{name}: from rows to splits")
    for stage, count in report.counts.items():
        table.add_row(stage, f"{count:,}")
    console.print(table)
    facts = [*describe_files(report), ("schema", describe_schema(report)), ("split", describe_split(report))]
    if report.preferences:
        facts.insert(0, ("data", describe_preferences(report)))
    for what, text in [*facts, *data_losses(report), *describe_warnings(report)]:
        console.print(f"{what:<10} {text}", highlight=False, markup=False, soft_wrap=True)


def _files(page: Path) -> list[str]:
    """Return lines with the paths of the report, of every fault, and of every dropped or repaired row."""
    names = {"report": page.name, "faults": "faults.jsonl", "rejects": "rejects.jsonl"}
    return [f"{what:<10} {page.with_name(name)}" for what, name in names.items()]
