"""One hosted run, top to bottom: gate → convert → check → estimate → upload → create → follow → evaluate → report.

`kamerton train model=openai model.name=gpt-3.5-turbo data=jsonl data.path=…`. What was sent is in `run.json` under
`hosted` before the next step begins (`base_url`, `training_file`, `validation_file`, `nonce`, `job_id`, `last_event`,
`fine_tuned_model`, `ended`), so the same command continues after a kill without a second upload or job.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console

from kamerton.config.hosted import unused
from kamerton.config.rewards import with_kept_graders
from kamerton.config.schema import Config
from kamerton.config.search import split_search
from kamerton.config.secrets import redacted
from kamerton.console import plain_console
from kamerton.decide.report.run import write_report
from kamerton.endpoint import connect, translated
from kamerton.errors import Cancelled, Fault, Interrupted, RunFailed, UserError
from kamerton.files import write_text
from kamerton.hosted.answer import score_hosted
from kamerton.hosted.follow import Follower, follow
from kamerton.hosted.plan import Plan, ignored_words, make_plan, print_plan
from kamerton.hosted.remote import Sleep, create_job, upload
from kamerton.pipeline.lifecycle import recorded
from kamerton.pipeline.session import Invocation, RunResult, result_of
from kamerton.pipeline.start import record_faults, record_start
from kamerton.pipeline.terminal import print_result
from kamerton.run.directory import RunDirectory
from kamerton.run.opening import open_run
from kamerton.score.baselines import write_baselines
from kamerton.shell import command_line
from kamerton.train.callbacks import StopRequest, stop_on_signal

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob

_SLICE_S = 0.2  # after which a pause checks for a requested stop


def train_hosted(config: Config, invocation: Invocation | None = None, *, sleep: Sleep = time.sleep) -> RunResult:
    """Fine-tune a hosted model according to `config` and write the run directory.

    Raises `UserError` for what the user must correct, `RunFailed` if the endpoint or its job fails, and `Interrupted`
    when stopped: the job continues at the endpoint, and the same run follows it again.
    """
    invocation = invocation or Invocation()
    console, overrides = invocation.console or plain_console(), invocation.overrides
    values = redacted(dataclasses.asdict(config), invocation.unresolved or {})
    with stop_on_signal() as stop, recorded(open_run(values), overrides) as run:
        plan = make_plan(dataclasses.replace(config, reward=with_kept_graders(config.reward, run.path)))
        _begin(run, config, plan)
        print_plan(console, plan, ignored := unused(split_search(overrides)[1]))
        if ignored and not run.resuming:
            run.event("warn", "hosted.unused", ignored_words(ignored), evidence=ignored)
        for fault in () if run.resuming else plan.warnings:
            run.event("warn", fault.code, fault.message, advice=fault.fix)
        try:
            with translated(plan.endpoint):
                client = connect(plan.endpoint)
                job = _job(client, run, plan, _stoppable(stop, sleep))
                done = follow(client, Follower(run, job.id, plan), _stoppable(stop, sleep), console)
        except (Interrupted, KeyboardInterrupt):
            _report_remaining_job(run, console)
            raise
        _end(run, plan, done)

        models = [*([("base", config.model.name)] if config.base else []), ("test", str(done.fine_tuned_model))]
        for name, model in models:
            score_hosted(run, config, plan, name, model, stop, console)
        if config.baselines and (run.path / "scores" / "test.parquet").exists():
            prepared = plan.prepared
            run.update(baselines=write_baselines(run.path, prepared.splits["train"], prepared.labels))
        write_report(run.path, state="succeeded")  # before the state is recorded: a finished run has its report
        run.set_state("succeeded")
    print_result(console, run)
    return result_of(run)


def dry_run(config: Config, invocation: Invocation) -> Plan:
    """Check and estimate as `train_hosted` does; nothing is sent and no run directory is created."""
    console, plan = invocation.console or plain_console(), make_plan(config)
    print_plan(console, plan, unused(split_search(invocation.overrides)[1]))
    console.print("model.dry_run=true: nothing was sent", highlight=False)
    return plan


def _begin(run: RunDirectory, config: Config, plan: Plan) -> None:
    """Record what will be sent; refuse another endpoint or other data than the run started with."""
    before = run.record.hosted
    if before.base_url not in (None, plan.endpoint.shown):
        message = f"run {run.run_id} was begun at {before.base_url}, now the endpoint is {plan.endpoint.shown}"
        fix = "set OPENAI_BASE_URL or model.base_url as it was, or give another run_id for a new run"
        record_file = str(run.path / "run.json")
        raise UserError([Fault("hosted.moved", message, fix, file=record_file, column="model.base_url")])
    counts = {name: len(examples) for name, examples in plan.prepared.splits.items()}
    record_start(run, plan.prepared, counts, config.seed)
    cost = plan.estimate
    dollars = {"training": cost.training, "evaluation": cost.evaluation, "total": cost.total}
    estimate = {**dataclasses.asdict(cost), "dollars": dollars}
    run.update(
        provider="openai",
        model={"name": config.model.name},
        hosted={"base_url": plan.endpoint.shown, "key": plan.endpoint.key, "estimate": estimate},
    )
    if before.ended in ("failed", "cancelled"):
        former = [*before.former_jobs, before.job_id]
        fresh = dict.fromkeys(("job_id", "nonce", "last_event", "ended", "paused", "fine_tuned_model"))
        run.update(hosted={**fresh, "former_jobs": former}, progress={"step": 0, "epoch": 0.0})
        (run.path / "metrics.csv").unlink(missing_ok=True)
        run.event("info", "hosted.again", f"job {before.job_id} {before.ended}: a new one is created")
    folder = run.path / "hosted"
    folder.mkdir(exist_ok=True)
    for name, file in plan.files.items():
        write_text(folder / f"{name}.jsonl", file.content.decode())
    record_faults(run, plan.prepared)


def _job(client: OpenAI, run: RunDirectory, plan: Plan, sleep: Sleep) -> FineTuningJob:
    """Return the job of this run with its files; what is recorded or exists at the endpoint is not created again."""
    hosted = run.record.hosted
    if (job_id := hosted.job_id) and not hosted.paused:
        return client.fine_tuning.jobs.retrieve(str(job_id))
    if job_id:
        job = client.fine_tuning.jobs.resume(str(job_id))
        run.update(hosted={"paused": False})
        return job
    for split, key in (("train", "training_file"), ("validation", "validation_file")):
        if split in plan.files:
            run.update(hosted={key: upload(client, plan.files[split], getattr(hosted, key), sleep)})
    if not hosted.nonce:
        run.update(hosted={"nonce": uuid.uuid4().hex})
    record = run.record
    hosted = record.hosted
    files = {"training_file": hosted.training_file, "validation_file": hosted.validation_file}
    files = {key: file for key, file in files.items() if file}
    since = datetime.fromisoformat(str(record.times.created)).timestamp()
    job = create_job(client, plan.request | files, run.run_id, str(hosted.nonce), since, sleep)
    run.update(hosted={"job_id": job.id})
    facts = job.hyperparameters if plan.method == "supervised" else job.method  # OpenAI returns no others
    evidence = None if facts is None else facts.to_dict()
    run.event("info", "hosted.job", f"job {job.id} at {plan.endpoint.shown}", evidence=evidence)
    return job


def _end(run: RunDirectory, plan: Plan, job: FineTuningJob) -> None:
    """Record how the job ended; raises if it did not succeed."""
    price, tokens = plan.estimate.price.training, job.trained_tokens
    spent = None if price is None or tokens is None or plan.estimate.timed else tokens * price / 1e6
    run.update(
        hosted={
            "ended": job.status,
            "fine_tuned_model": job.fine_tuned_model,
            "trained_tokens": tokens,
            "training_dollars": spent,
        }
    )
    if job.status == "cancelled":
        raise Cancelled(Fault("hosted.cancelled", f"job {job.id} was cancelled", "resume the run for a new job"))
    if job.status == "failed" or not job.fine_tuned_model:
        error = job.error
        reason = f"{error.message} [{error.code}]" if error and error.message else "no reason given"
        message = f"job {job.id} failed: {reason}"
        fix = "correct what it names; the same command then starts a new job"
        raise RunFailed(Fault("hosted.failed", message, fix, column=error.param if error else None))


def _report_remaining_job(run: RunDirectory, console: Console) -> None:
    """Report that the job continues at the endpoint."""
    job = run.record.hosted.job_id
    if job is None:
        return
    message = f"job {job} continues at {run.record.hosted.base_url}"
    stop = command_line("runs", "stop", run.path)
    advice = f"follow it again with run_id={run.run_id}, or cancel it: {stop}"
    run.event("info", "hosted.left", message, advice=advice)
    console.print(f"{message}; to cancel it: {stop}", highlight=False, markup=False, soft_wrap=True)


def _stoppable(stop: StopRequest, sleep: Sleep) -> Sleep:
    """Return a `sleep` that a requested stop interrupts."""

    def pause(seconds: float) -> None:
        while seconds > 0:
            stop.check()
            sleep(min(seconds, _SLICE_S))
            seconds -= _SLICE_S
        stop.check()

    return pause
