"""`kamerton prepare`: the data gate alone. Reads, checks, splits and encodes, then reports; trains nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from kamerton.assets import cache_dir, local_data
from kamerton.config.check import to_config
from kamerton.config.command import Asked, run_command
from kamerton.config.schema import ModelOptions
from kamerton.data.options import DataOptions, SplitOptions, check_data_options, check_split_options
from kamerton.errors import Fault, UserError

if TYPE_CHECKING:
    from kamerton.config.schema import Config
    from kamerton.data.gate import Prepared


def prepare_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and the data report; returns the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--show", type=int, default=0, metavar="N")
    own, others = parser.parse_known_args(list(arguments))

    def job(values: dict[str, Any], asked: Asked) -> None:
        del asked
        _prepare(to_config(values), own.show)

    return run_command(others, job, data_faults)


def data_faults(values: dict[str, Any]) -> list[Fault]:
    """Every fault of the data that the composed values name. What is prepared here is cached, so nothing is read twice.

    Rows too long for the model are among them, if its name is one that can be loaded.
    """
    from kamerton.data.gate import prepare
    from kamerton.data.inputs import load_inputs
    from kamerton.model.load import check_model

    try:
        data = TypeAdapter(DataOptions).validate_python(values["data"])
        split = TypeAdapter(SplitOptions).validate_python(values["split"])
        model = TypeAdapter(ModelOptions).validate_python(values["model"])
        if check_data_options(data) or check_split_options(split):
            return []  # said already
        if check_model(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code):
            prepare(local_data(data), split, cache=cache_dir() / "data")
        else:
            load_inputs(data, split, model)
    except ValidationError:
        return []  # said already
    except UserError as error:
        return list(error.faults)
    return []


def _prepare(config: Config, shown: int) -> None:
    """Prepare, encode for the configured model, write the report beside the run directories, show examples."""
    from rich.console import Console

    from kamerton.data.inputs import load_inputs
    from kamerton.data.report import write_report
    from kamerton.data.show import show

    console = Console()
    inputs = load_inputs(config.data, config.split, config.model)
    prepared = inputs.prepared
    folder = Path(config.paths.outputs).absolute() / config.name / f"data-{prepared.fingerprint[:8]}"
    page = write_report(prepared, folder, inputs.encoded)
    for text in show(inputs.encoded["train"], inputs.tokenizer, shown):
        console.print(text)
    _say(console, prepared, page)


def _say(console: Any, prepared: Prepared, page: Path) -> None:
    """Counts by stage, faults by code, and where the report is."""
    from rich.table import Table

    table = Table("stage", "rows", title=f"Data {prepared.report['name']}")
    for name, count in prepared.report["counts"].items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    for severity, code, count in prepared.report["fault_counts"]:
        console.print(f"{severity} {code}: {count:,}", highlight=False)
    console.print(f"report  {page}", highlight=False, soft_wrap=True)
    console.print(f"faults  {page.with_name('faults.jsonl')}", highlight=False, soft_wrap=True)
    console.print(f"rejects {page.with_name('rejects.jsonl')}", highlight=False, soft_wrap=True)
