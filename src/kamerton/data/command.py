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
from kamerton.data.options import DataOptions, SplitOptions, check_data_options, check_split_options
from kamerton.errors import Fault, UserError

if TYPE_CHECKING:
    from kamerton.config.schema import Config
    from kamerton.data.prepare import Prepared


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
    """Every fault of the data that the composed values name. What was prepared is cached, so nothing is read twice."""
    from kamerton.data.prepare import prepare

    try:
        data = TypeAdapter(DataOptions).validate_python(values["data"])
        split = TypeAdapter(SplitOptions).validate_python(values["split"])
        if not check_data_options(data) and not check_split_options(split):
            prepare(local_data(data), split, cache=cache_dir() / "data")
    except ValidationError:
        return []  # said already
    except UserError as error:
        return list(error.faults)
    return []


def _prepare(config: Config, shown: int) -> None:
    """Prepare, encode for the configured model, write the report beside the run directories, show examples."""
    from rich.console import Console

    from kamerton.data.encode import encode
    from kamerton.data.faults import FaultLog
    from kamerton.data.prepare import prepare
    from kamerton.data.report import write_report
    from kamerton.data.show import show
    from kamerton.model.load import load_tokenizer

    console, cache = Console(), cache_dir() / "data"
    prepared = prepare(local_data(config.data), config.split, cache=cache)
    model = config.model
    tokenizer = load_tokenizer(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    encoded = {
        name: encode(
            examples,
            tokenizer,
            max_length=config.data.max_length,
            overlong=config.data.overlong,
            cache=cache,
            name=name,
            log=FaultLog(config.data.policy),
        )
        for name, examples in prepared.splits.items()
        if len(examples)
    }
    folder = Path(config.paths.outputs).absolute() / config.name / f"data-{prepared.fingerprint[:8]}"
    page = write_report(prepared, folder, encoded)
    for text in show(encoded["train"], tokenizer, shown):
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
