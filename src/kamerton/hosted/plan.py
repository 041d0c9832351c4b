"""Plan a hosted run: what would be sent, and its cost. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kamerton.assets import cache_dir
from kamerton.config.check import check_values, to_config
from kamerton.config.model_options import PriceOptions
from kamerton.config.objective import objective_faults
from kamerton.config.objective_options import ObjectiveOptions
from kamerton.config.schema import Config
from kamerton.config.target_checks import check_targets
from kamerton.data.example import DataExample
from kamerton.data.gate import Prepared, prepare
from kamerton.data.read.sources import local_data
from kamerton.endpoint import OPENAI, Endpoint, endpoint_faults, find_endpoint
from kamerton.errors import Fault, UserError
from kamerton.hosted.convert import ChatFile, chat_file, chat_line, check_chat, left_out
from kamerton.hosted.cost import (
    Estimate,
    Price,
    cost_words,
    estimate,
    find_encoding,
    find_price,
    over_limit,
    too_long,
)
from kamerton.hosted.preferences import check_preferences, pairs_of, preference_line, ranking_notice
from kamerton.hosted.reinforcement import check_turns, grader_of, line_of
from kamerton.score.reward_checks import grading_faults, reference_faults

if TYPE_CHECKING:
    from rich.console import Console

SENT = ("train", "validation")
_METHODS = {"sft": "supervised", "dpo": "dpo", "grpo": "reinforcement"}  # by objective.name


@dataclass(frozen=True, slots=True)
class Plan:
    """Checked data, the files to upload by split, the job's parameters, and the estimated cost."""

    endpoint: Endpoint
    prepared: Prepared
    files: dict[str, ChatFile]
    request: dict[str, Any]
    estimate: Estimate
    warnings: tuple[Fault, ...]

    @property
    def method(self) -> str:
        """`supervised`, `dpo` or `reinforcement`."""
        return str(self.request["method"]["type"])

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The hyperparameters of the job."""
        parameters: Mapping[str, Any] = self.request["method"][self.method]["hyperparameters"]
        return parameters

    @property
    def steps(self) -> int:
        """Optimizer steps of the job, by its parameters."""
        batches = -(-self.files["train"].examples // int(self.parameters["batch_size"]))
        return batches * int(self.parameters["n_epochs"])


def make_plan(config: Config) -> Plan:
    """Check and convert the data and estimate the cost; raises `UserError` with every fault."""
    model = config.model
    endpoint = find_endpoint(model.base_url, model.key)
    faults = endpoint_faults(endpoint)
    try:
        prepared = prepare(local_data(config.data), config.split, cache=cache_dir() / "data")
    except UserError as error:
        raise UserError([*faults, *error.faults]) from None
    splits = {name: list(prepared.splits.get(name, ())) for name in (*SENT, "test")}
    method = _METHODS[config.objective.name]
    try:
        request = job_request(config)
        files = {name: _file(config, splits[name]) for name in SENT if splits[name]}
    except UserError as error:  # of the rewards
        raise UserError([*faults, *error.faults]) from None
    encode = find_encoding(model.name)
    cost = estimate(
        list(pairs_of(splits["train"])) if method == "dpo" else splits["train"],
        splits["test"],
        encode,
        find_price(endpoint.url, model.name, Price(**asdict(model.price or PriceOptions()))),
        epochs=int(config.trainer.get("max_epochs") or 1),
        models=2 if config.base else 1,
        answer=config.score.max_new_tokens,
        timed=method == "reinforcement",
    )
    faults += _closing(endpoint)
    faults += [fault for name, file in files.items() for fault in check_chat(name, splits[name], file)]
    faults += [fault for name, examples in splits.items() for fault in left_out(name, examples)]
    if method == "dpo":
        faults += [fault for name in files for fault in check_preferences(prepared.splits[name])]
        faults += [fault for name in files for fault in ranking_notice(name, splits[name])]
    if method == "reinforcement":
        faults += grading_faults(config.reward, prepared.splits)
        faults += reference_faults({"reward": config.reward}, prepared.splits)
        faults += [fault for name in files for fault in check_turns(prepared.splits[name])]
    limits = (too_long(splits["train"], model.name, encode), over_limit(cost, model.max_cost))
    faults += [fault for fault in limits if fault]
    if any(fault.severity == "error" for fault in faults):
        raise UserError(faults)
    return Plan(endpoint, prepared, files, request, cost, tuple(faults))


def _file(config: Config, examples: Sequence[DataExample]) -> ChatFile:
    """Return the file of a split."""
    method = _METHODS[config.objective.name]
    if method == "dpo":
        return chat_file(pairs_of(examples), preference_line)
    return chat_file(examples, line_of(config.reward) if method == "reinforcement" else chat_line)


def _closing(endpoint: Endpoint) -> list[Fault]:
    """Warn that OpenAI ends its fine-tuning, as announced in May 2026."""
    if endpoint.url != OPENAI:
        return []
    message = (
        "OpenAI accepts fine-tuning jobs only from existing users (since 2026-05-07), and from nobody from 2027-01-06;"
        " gpt-3.5-turbo is shut down since 2026-10-23"
    )
    address = "OPENAI_BASE_URL=http://127.0.0.1:8000/v1"
    fix = f"train at another endpoint: {address} is kamerton serve (docs/how-to/hosted.md)"
    return [Fault("hosted.closing", message, fix, column="model", severity="warning")]


def job_request(config: Config) -> dict[str, Any]:
    """Return the job's parameters. The learning rate is the endpoint's own, times the multiplier if one is given.

    Raises `UserError` for rewards that cannot be sent.
    """
    multiplier, method = config.model.learning_rate_multiplier, _METHODS[config.objective.name]
    compute = config.objective.samples / ObjectiveOptions().samples if method == "reinforcement" else 1.0
    hyperparameters = {
        "n_epochs": int(config.trainer.get("max_epochs") or 1),
        "batch_size": config.batch.size,
        **({} if multiplier is None else {"learning_rate_multiplier": multiplier}),
        **({"beta": config.objective.beta} if method == "dpo" else {}),
        **({} if compute == 1 else {"compute_multiplier": compute}),
    }
    grader = {"grader": grader_of(config.reward)} if method == "reinforcement" else {}
    return {
        "model": config.model.name,
        "method": {"type": method, method: {**grader, "hyperparameters": hyperparameters}},
        "seed": config.seed,
        **({"suffix": config.model.suffix} if config.model.suffix else {}),
    }


def plan_faults(values: dict[str, Any]) -> list[Fault]:
    """Return every fault that can be found without sending anything; none if the values themselves have faults."""
    if any(fault.severity == "error" for fault in check_values(values)):
        return []
    functions = {key: values.get(key) or {} for key in ("metrics", "reward")}
    faults = [*objective_faults(values), *check_targets(functions, values.get("allow_targets") or ())]
    try:
        return [*faults, *make_plan(to_config(values)).warnings]
    except UserError as error:
        return [*faults, *error.faults]


def plan_words(plan: Plan, ignored: Sequence[str]) -> Iterator[str]:
    """Yield the lines that are printed before anything is sent."""
    sizes = ", ".join(f"{len(examples):,} {name}" for name, examples in plan.prepared.splits.items())
    yield f"data   {sizes}{f'; {len(plan.prepared.labels)} labels' if plan.prepared.labels else '; free text'}"
    sent = (f"{file.examples:,} {name} ({len(file.content):,} bytes)" for name, file in plan.files.items())
    yield f"sends  {', '.join(sent)}"
    request: Mapping[str, Any] = plan.request
    method = {} if plan.method == "supervised" else {"method": plan.method}
    if plan.method == "reinforcement":
        method["grader"] = request["method"]["reinforcement"]["grader"]["type"]
    facts = {"seed": request["seed"], "suffix": request.get("suffix")}
    job = {"model": request["model"], **method, **plan.parameters, **facts}
    words = ", ".join(f"{name}={value}" for name, value in job.items() if value is not None)
    rate = "" if "learning_rate_multiplier" in plan.parameters else "; the learning rate is the endpoint's own"
    yield f"job    {words}{rate}"
    yield from cost_words(plan.estimate)
    if ignored:
        yield f"unused {ignored_words(ignored)}"


def ignored_words(ignored: Sequence[str]) -> str:
    """Return a sentence about overrides that a hosted model cannot use."""
    rate = any(text.startswith("optimizer.lr=") for text in ignored)
    advice = "; for the learning rate give model.learning_rate_multiplier" if rate else ""
    return f"a hosted model cannot use {', '.join(ignored)}{advice}"


def print_plan(console: Console, plan: Plan, ignored: Sequence[str]) -> None:
    """Print the plan and its warnings."""
    console.print(f"[bold]{plan.request['model']}[/bold] at {plan.endpoint.shown}", highlight=False)
    for line in plan_words(plan, ignored):
        style = "yellow" if line.startswith("unused") else None
        console.print(line, highlight=False, markup=False, soft_wrap=True, style=style)
    for fault in plan.warnings:
        console.print(f"warning: {fault}", highlight=False, markup=False, soft_wrap=True, style="yellow")
