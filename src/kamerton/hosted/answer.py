"""Score a hosted model on the test split of its run through the chat API, with the score table of any run."""

from __future__ import annotations

from rich.console import Console

from kamerton.config.rewards import build_rewards
from kamerton.config.schema import Config
from kamerton.console import count_bar
from kamerton.data.encode.each_turn import each_turn, has_functions
from kamerton.data.inputs import targets_of
from kamerton.errors import Fault, UserError
from kamerton.hosted.plan import Plan
from kamerton.run.directory import RunDirectory
from kamerton.score.custom import with_custom_metrics
from kamerton.score.evaluate import decoding_of
from kamerton.score.generate.external import answered_table
from kamerton.score.generate.hosted import hosted_answers
from kamerton.score.metrics import compute
from kamerton.score.options import EngineOptions, engine_for
from kamerton.score.table import read_scores, write_scores
from kamerton.train.callbacks import StopRequest


def score_hosted(
    run: RunDirectory, config: Config, plan: Plan, name: str, model: str, stop: StopRequest, console: Console
) -> None:
    """Write `scores/<name>.parquet` of the model's answers, unless it is there, and record its metrics.

    Received answers are not requested again. A base model that cannot be asked is skipped, and an event records it.
    """
    path = run.path / "scores" / f"{name}.parquet"
    if not len(plan.prepared.splits.get("test", ())):
        return
    if not path.exists():
        try:
            _ask(run, config, plan, name, model, stop, console)
        except UserError as error:
            if name != "base":
                raise
            fault: Fault = error.faults[0]
            run.event("warn", "hosted.base", f"the base model is not scored: {fault.message}", advice=fault.fix)
            console.print(f"the base model is not scored: {fault.message}", style="yellow", markup=False)
            return
    metrics = compute(read_scores(path))
    run.update(metrics={name: {key: value for key, value in metrics.items() if value is not None}})


def _ask(
    run: RunDirectory, config: Config, plan: Plan, name: str, model: str, stop: StopRequest, console: Console
) -> None:
    engine, decoding = engine_for(config.model, EngineOptions()), decoding_of(config.score)
    examples, partial = plan.prepared.splits["test"], run.path / "scores" / f".{name}.partial"
    if not plan.prepared.labels:
        examples = each_turn(examples, targets_of(config.data))
    with count_bar(console, f"asking {model} {len(examples):,} test prompts", len(examples)) as advance:

        def progress(done: int) -> None:
            advance(done)
            stop.check()

        table, _ = answered_table(
            examples,
            plan.prepared.labels,
            lambda left: hosted_answers(left, model, engine, decoding, calls=has_functions(examples)),
            partial,
            (engine.kind, engine.url, model, examples.fingerprint, decoding),
            progress,
        )
    rewards = build_rewards(config, run.path)
    table = with_custom_metrics(table, config.metrics, config.allow_targets, rewards=rewards)
    write_scores(table, run.path / "scores" / f"{name}.parquet")
