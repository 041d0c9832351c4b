"""The files of a run directory and the fields of `run.json`; tests/docs compares both with those of a real run."""

from __future__ import annotations

FILES = {
    "run.json": "state, progress, metrics, versions, error: the fields below; replaced atomically",
    "config.yaml": "the resolved configuration",
    "overrides.yaml": "the typed overrides",
    "events.jsonl": "one event per line ([codes](codes.md#events)); absent if there was none",
    "metrics.csv": "every logged step: `train/…`, `val/…`, `lr`, `perf/…`",
    "samples.jsonl": "every completion of training on rewards ([rewards](../how-to/rewards.md)), one per line",
    "graders/": "of rewards by graders in files: their contents when the run was opened, which it grades with",
    "log.txt": "the output of a job; absent if the run was started in a terminal",
    "report.html": "the report: one file, loads nothing from the network",
    "report.md": "the report for terminals and pull requests",
    "report.json": "the report for programs",
    "checkpoints/last.ckpt": "state to resume from: trained weights, optimizer, position",
    "checkpoints/previous.ckpt": "the checkpoint before, until the run is finished",
    "checkpoints/best.ckpt": "the best weights by `callbacks.checkpoint_best.monitor`; exported and scored",
    "model/": (
        "the exported model in Hugging Face format, with a README.md (the code to load it) and prompt.json (columns to "
        "prompts)"
    ),
    "scores/test.parquet": "one row per test example ([columns](scores.md))",
    "scores/base.parquet": "the same, scored by the unmodified base model",
    "scores/task.parquet": "the test set of single completions, `score.data`"
    " ([preferences](../how-to/preferences.md)); `task_base.parquet`: by the base model",
    "scores/baselines/": "the same, by `majority`, `tfidf` and `previous` ([reports](../how-to/reports.md#baselines))",
    "tensorboard/": "with `logger=tensorboard`",
    "wandb/": "with `logger=wandb` (the default): the offline run",
    "hosted/": "of a hosted model: the files that were uploaded",
    ".lock": "held by the process that trains",
    ".worker": "held by the process that waits for a job's turn and watches it",
}
FOLDERS = {
    "cross-validation": "`folds/0/`, …: a run directory for each fold; `cross_validation.json`;"
    " `scores/out_of_fold.parquet` ([how-to](../how-to/cross_validation.md))",
    "sweep": "`trials/0/`, …: a run directory for each trial; `study.db`, `sweep.json`, `trials.csv`"
    " ([how-to](../how-to/sweeps.md#output))",
    "evaluations/NAME": "`evaluation.json`, `scores/test.parquet` ([how-to](../how-to/evaluation.md))",
    "comparisons/NAME": "`comparison.json`, `report.html`, `.md`, `.json` ([how-to](../how-to/compare.md))",
    "NAME/data-ID": "`data_report.html`, `.md`, `.json`, `faults.jsonl`, `rejects.jsonl` of `kamerton prepare`"
    " ([how-to](../how-to/data.md))",
}
RECORD = {
    "run_id": "the name of the directory",
    "experiment": "the name of the folder above it (`name`)",
    "objective": "what is learnt: `sft`, `dpo`, …",
    "graders": "hash of the contents of the grader files (`reward.grader.file`), if there are any",
    "provider": "`local`, or the provider of a hosted model",
    "state": "`validating_files`, `queued`, `running`, `succeeded`, `failed`, `cancelled` or `paused`",
    "times": "`created`, `started`, `finished`: ISO 8601, UTC",
    "error": "why the run failed: `code`, `message`, `param`; null otherwise",
    "heartbeat": "when the training process last wrote",
    "pid": "its process id",
    "versions": "of Python and the main packages",
    "git": "`commit` of the working directory and whether it was `dirty`; null outside a repository",
    "machine": "`system`, usable `cores`, `threads`, `waiting` (how they wait for each other), `gpu`",
    "cwd": "the working directory",
    "seed": "the seed",
    "data": "`fingerprint`, `counts` by split, and a `report` of what was dropped, repaired and truncated",
    "batch": "the batch layout used (`cut`), `max_tokens`, and whether liger-kernel computes the loss (`liger`)",
    "schedule": "`warmup_steps`",
    "progress": "`epoch`, `step` of `steps`, `steps_per_epoch`, `examples` (`processed`, `total`), `tokens`, `seconds`,"
    " `eta_s`",
    "metrics": "by split: `train` (latest step), `validation` (latest), `best` (at the best checkpoint), `test`,"
    " `base`, with `score.data` `task` and `task_base`; with folds `mean`, `deviation`, `out_of_fold`",
    "model": "`name`, `parameters`, `trainable_parameters`",
    "best": "the best checkpoint: `checkpoint`, `step`, `monitor`, `mode`, `value`",
    "ended": "what ended the training: `reason`, `step`, `of`, `detail`, `values`",
    "throughput": "tokens/s, padding, sharing, MFU and more ([values](../how-to/scale.md#throughput))",
    "baselines": "the metrics of `majority`, `tfidf` and `previous`",
    "wandb_id": "the id of the W&B run",
    "trial": "of a trial: its number, study and parameters",
    "parent": "of a trial or a fold: the directory it belongs to",
    "job": "of a job: `overrides`, `search`, `cwd`, `limit`, `queued`",
    "hosted": "of a hosted model: ids, endpoint and position of the remote job",
}


def run_directory_page() -> str:
    """The page `reference/run_directory.md`."""
    parts = [
        "# Run directory",
        "A run writes `outputs/<name>/<run_id>/`; everything after training reads only these files. A file appears"
        " when it is first written.",
        _table("file", {f"`{name}`": text for name, text in FILES.items()}),
        "## Fields of `run.json`",
        _table("field", {f"`{name}`": text for name, text in RECORD.items()}),
        "## Other directories below `outputs`",
        _table("directory", {f"`{name}`" if "/" in name else name: text for name, text in FOLDERS.items()}),
    ]
    return "\n\n".join(parts) + "\n"


def _table(column: str, rows: dict[str, str]) -> str:
    lines = [f"| {column} | contents |", "| --- | --- |"]
    return "\n".join(lines + [f"| {name} | {text} |" for name, text in rows.items()])
