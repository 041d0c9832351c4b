"""How well the monitor tells faults from healthy runs: planted faults of many kinds, and healthy runs of all sorts.

    python scripts/bench/monitor.py [--seeds 5] [--healthy 60] [--only CODE,...]

Each run is a real one of the tiny model, 160 steps or so. A planted fault is found when its code (or, where the second
column names several, one of them) is said before half of what remains of the run after the fault began; anything said
in a healthy run is a false alarm. Prints a Markdown table and exits 1 where fewer than 95 % are found or more than one
healthy run in 60 is accused.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.errors import RunFailed
from kamerton.monitor.codes import CODES
from kamerton.monitor.detect import find_issues
from kamerton.monitor.series import Setting, read_rows
from kamerton.pipeline.run import train
from kamerton.quiet import quiet_training
from kamerton.train import build

STEPS, BEGIN = 160, 80


@dataclass
class Plant:
    """One kind of fault: what is typed, the rows, what a callback does, and since which step it is there."""

    codes: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    rows: Callable[[random.Random], dict[str, list[dict[str, str]]]] | None = None
    callback: Callable[[], pl.Callback] | None = None
    since: int = 0


Judge = Callable[[Path, Plant, str, int], tuple[list[tuple[str, int]], int]]


def rows(draw: random.Random, count: int = 320, labels: int = 4, noise: float = 0.0) -> list[dict[str, str]]:
    """Prompts that end in eight times the letter that decides the label; a share `noise` of labels is random."""
    lines = []
    for number in range(count):
        label = draw.randrange(labels)
        other = " ".join(draw.choice("abcdefgh") * draw.randint(1, 3) for _ in range(draw.randint(1, 4)))
        shown = draw.randrange(labels) if draw.random() < noise else label
        lines.append({"prompt": f"{other} {number} {'ABCDEF'[label] * 8}", "completion": "wxyzuv"[shown]})
    return lines


def healthy_rows(draw: random.Random) -> dict[str, list[dict[str, str]]]:
    return {"train": rows(draw), "validation": rows(draw, 48)}


class At(pl.Callback):
    """Calls `change(trainer, module, step)` before each step from `since` on."""

    def __init__(self, since: int, change: Callable[[pl.Trainer, Any, int], None], after: Any = None) -> None:
        self.since, self.change, self.after = since, change, after

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step >= self.since:
            self.change(trainer, pl_module, trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self.after is not None and trainer.global_step > self.since:
            self.after(trainer, pl_module, trainer.global_step)


def trained(module: Any) -> list[torch.nn.Parameter]:
    return [weight for weight in module.parameters() if weight.requires_grad]


def broken_weights() -> pl.Callback:
    def change(_: Any, module: Any, step: int) -> None:
        if step == BEGIN:
            trained(module)[0].data.fill_(float("nan"))

    return At(BEGIN, change)


def broken_gradient() -> pl.Callback:
    def change(_: Any, module: Any, step: int) -> None:
        if step == BEGIN:
            trained(module)[0].register_hook(lambda gradient: gradient * float("inf"))

    return At(BEGIN, change)


def one_bad_step() -> pl.Callback:
    kept: list[torch.Tensor] = []

    def change(_: Any, module: Any, step: int) -> None:
        if step == BEGIN:
            for weight in trained(module):
                kept.append(weight.data.clone())
                weight.data += 0.5 * torch.randn_like(weight) * max(0.1, float(weight.abs().mean()) * 3)

    def after(_: Any, module: Any, step: int) -> None:
        if step == BEGIN + 1:
            for weight, before in zip(trained(module), kept, strict=True):
                weight.data.copy_(before)

    return At(BEGIN, change, after)


def drift() -> pl.Callback:
    def change(_: Any, module: Any, step: int) -> None:
        for weight in trained(module):
            weight.data += 0.4 * torch.randn_like(weight) * max(0.05, float(weight.abs().mean()))

    return At(BEGIN, change)


def no_gradient() -> pl.Callback:
    def change(_: Any, module: Any, step: int) -> None:
        if step == 15:
            for weight in trained(module):
                weight.register_hook(lambda gradient: gradient * 1e-7)

    return At(15, change)


def slow_steps() -> pl.Callback:
    began = [time.perf_counter()]
    usual: list[float] = []

    def change(_: Any, module: Any, step: int) -> None:
        time.sleep(4 * sorted(usual)[len(usual) // 2])

    class Slow(At):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *rest: Any) -> None:
            began[0] = time.perf_counter()
            super().on_train_batch_start(trainer, pl_module, *rest)

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *rest: Any) -> None:
            if trainer.global_step < self.since:
                usual.append(time.perf_counter() - began[0])

    return Slow(BEGIN, change)


def kept_tensors() -> pl.Callback:
    kept: list[torch.Tensor] = []
    return At(20, lambda *_: kept.append(torch.ones(2_000_000)))


class SlowLoader(pl.Callback):
    """Every batch comes late."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        loader = trainer.train_dataloader
        make = loader._batch

        def late(*arguments: Any) -> Any:
            time.sleep(0.05)
            return make(*arguments)

        loader._batch = late


class NoTargets(At):
    """Steps that say they have nothing to predict."""

    def __init__(self) -> None:
        super().__init__(BEGIN, lambda *_: None)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, *_: Any) -> None:
        if trainer.global_step == BEGIN:
            object.__setattr__(batch, "targets", 0)


def memorised(draw: random.Random) -> dict[str, list[dict[str, str]]]:
    return {"train": rows(draw, 32, noise=1.0), "validation": rows(draw, 48, noise=1.0)}


def unlearnable(draw: random.Random) -> dict[str, list[dict[str, str]]]:
    """Longer random answers: their lengths and letters are learnt at once, and nothing after that."""

    def one(number: int) -> dict[str, str]:
        answer = " ".join("".join(draw.choice("wxyz") for _ in range(4)) for _ in range(2))
        return {"prompt": f"{draw.choice('ABCDEF')} {number}", "completion": answer}

    return {"train": [one(n) for n in range(960)], "validation": [one(n) for n in range(48)]}


def easy_validation(draw: random.Random) -> dict[str, list[dict[str, str]]]:
    hard = [row | {"prompt": f"dark {row['prompt']}"} for row in rows(draw, 200, noise=1.0)]
    easy = [row | {"prompt": f"light {number}", "completion": "w"} for number, row in enumerate(rows(draw, 248))]
    return {"train": hard + easy[:200], "validation": easy[200:]}


def one_answer(draw: random.Random) -> dict[str, list[dict[str, str]]]:
    """Training shows nearly one label only; validation holds them all alike."""
    train = [row | {"completion": "w"} if draw.random() < 0.97 else row for row in rows(draw)]
    return {"train": train, "validation": rows(draw, 48)}


PLANTS: dict[str, Plant] = {
    "broken weights": Plant(("non-finite-loss",), callback=broken_weights, since=BEGIN),
    "broken gradient": Plant(("non-finite-gradient",), callback=broken_gradient, since=BEGIN),
    "one bad step": Plant(("loss-spike",), callback=one_bad_step, since=BEGIN),
    "learning rate x 300": Plant(("learning-rate-too-high", "non-finite-loss"), ("optimizer.lr=1.0", "clip_norm=null")),
    "learning rate / 10,000": Plant(("learning-rate-too-low",), ("optimizer.lr=3e-7",)),
    "drifting weights": Plant(("divergence",), callback=drift, since=BEGIN),
    "random answers": Plant(("plateau",), ("trainer.max_steps=400",), rows=unlearnable),
    "learning rate / 100": Plant(("underfitting", "learning-rate-too-low"), ("optimizer.lr=3e-5",)),
    "memorised labels": Plant(("overfitting",), ("trainer.max_steps=800",), rows=memorised),
    "gradients x 1e-7": Plant(("vanishing-gradient",), callback=no_gradient, since=15),
    "clip_norm / 1,000": Plant(("always-clipped",), ("clip_norm=0.001",)),
    "no targets": Plant(("no-targets",), callback=NoTargets, since=BEGIN),
    "slow loader": Plant(("data-starvation",), callback=SlowLoader),
    "kept tensors": Plant(("memory-creep",), callback=kept_tensors, since=20),
    "slow steps": Plant(("throughput-drop",), callback=slow_steps, since=BEGIN),
    "validation too easy": Plant(("suspicious-validation",), rows=easy_validation),
    "one answer for all": Plant(("prediction-collapse",), rows=one_answer),
}


def run(folder: Path, name: str, overrides: list[str], data: dict[str, list[dict[str, str]]], callback: Any) -> Path:
    """One run of the tiny model; its directory."""
    files = []
    for part, rows_of_part in data.items():
        file = folder / f"{name}-{part}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in rows_of_part))
        files.append(f"data.{part}={file}")
    plain = ["model=tiny", "data=jsonl", "logger=csv", "callbacks.progress_bar=null", "callbacks.model_summary=null"]
    plain += ["callbacks.early_stopping=null", "base=false", "baselines=false", "model.export=null", "adapter=full"]
    plain += [f"paths.outputs={folder}", f"run_id={name}", "name=watch", "data.near_duplicates=null", "threads=1"]
    plain += [
        "data.labels=null",
        "optimizer.lr=0.003",
        "batch.size=8",
        f"trainer.max_steps={STEPS}",
        "trainer.max_epochs=400",
    ]
    plain += ["eval.strategy=steps", "eval.every=20"]
    before = build.build_callbacks

    def with_plant(*arguments: Any) -> Any:
        return [*([callback()] if callback else []), *before(*arguments)]

    from kamerton.train import fit

    fit.build_callbacks = with_plant  # type: ignore[assignment]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            train(to_config(compose_values([*plain, *files, *overrides])))
    except RunFailed:
        pass
    finally:
        fit.build_callbacks = before
    return folder / "watch" / name


def issues(path: Path) -> list[tuple[str, int]]:
    """Code and step of what the monitor said."""
    events = (
        [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
        if (path / "events.jsonl").exists()
        else []
    )
    return [(event["code"], event["evidence"]["step"]) for event in events if event["code"] in CODES]


def cost(path: Path) -> float:
    """Milliseconds that all detectors take for a step: the best of five passes over the metrics of a run."""
    rows = read_rows(path / "metrics.csv")
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        find_issues(rows, Setting(rows[-1][0], 1.0, 10))
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds) / rows[-1][0]


def command_line(
    description: str | None,
    plants: Mapping[str, Plant],
    judge: Judge,
    plain: Callable[[Path, int], bool],
    real: Callable[[Path, int], bool] | None = None,
) -> None:
    """Measure planted faults by `judge`, and plain runs by `plain` and `real`; exit with 1 if any is too bad."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plain", "--healthy", type=int, default=60)
    parser.add_argument("--only", help="kinds of faults, with commas")
    if real:
        parser.add_argument("--real", type=int, default=0, help="number of real plain runs")
    parser.add_argument("--work", type=Path, help="keep the runs here")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(plants)
    quiet_training()
    with tempfile.TemporaryDirectory() as name:
        folder = options.work or Path(name)
        folder.mkdir(exist_ok=True)
        os.environ["KAMERTON_CACHE"] = f"{folder}/cache"
        good = planted(plants, chosen, options.seeds, partial(judge, folder)) & plain(folder, options.plain)
        if real and options.real:
            good &= real(folder, options.real)
    sys.exit(not good)


def judge_run(folder: Path, plant: Plant, name: str, seed: int) -> tuple[list[tuple[str, int]], int]:
    """What the monitor said of a real run with this fault, and its number of steps."""
    data = (plant.rows or healthy_rows)(random.Random(seed))
    path = run(folder, name, [f"seed={seed}", *plant.overrides], data, plant.callback)
    return issues(path), json.loads((path / "run.json").read_text())["progress"]["steps"]


def planted(
    plants: Mapping[str, Plant],
    chosen: list[str],
    seeds: int,
    judge: Callable[[Plant, str, int], tuple[list[tuple[str, int]], int]],
) -> bool:
    print("| planted | code | found in time | at step | also said |\n| --- | --- | --- | --- | --- |")
    hits = total = 0
    for kind in chosen:
        plant, also, steps = plants[kind], set[str](), list[int | None]()
        for seed in range(seeds):
            reported, length = judge(plant, f"{list(plants).index(kind)}-{seed}", seed)
            latest = plant.since + (length - plant.since) / 2
            in_time = [step for code, step in reported if code in plant.codes and plant.since <= step <= latest]
            steps.append(min(in_time, default=None))
            also |= {f"{code} at {step}" for code, step in reported if code not in plant.codes or not in_time}
        count = sum(step is not None for step in steps)
        hits, total = hits + count, total + seeds
        cells = (
            kind,
            ", ".join(plant.codes),
            f"{count} of {seeds}",
            ", ".join(map(str, steps)),
            ", ".join(sorted(also)),
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{hits} of {total} found in time ({hits / max(1, total):.0%})\n")
    return hits >= 0.95 * total


def healthy(folder: Path, count: int) -> bool:
    """Learning rates, batch sizes, label counts, noise, adapters and lengths of all sorts."""
    accused = []
    shapes = itertools.product((1e-3, 2e-3, 3e-3), (4, 8, 16), (2, 4, 6), (0.0, 0.1))
    kinds = random.Random(0).sample(list(shapes), min(count, 54))
    for number in range(count):
        rate, size, labels, noise = kinds[number % len(kinds)]
        draw = random.Random(number)
        data = {"train": rows(draw, 320, labels, noise), "validation": rows(draw, 48, labels, noise)}
        more = ["scheduler=cosine"] if number % 3 == 0 else []
        typed = [f"seed={number}", f"optimizer.lr={rate}", f"batch.size={size}", *more]
        reported = issues(run(folder, f"healthy-{number}", typed, data, None))
        if reported:
            accused.append((typed, noise, labels, reported))
    if count:
        print(f"all detectors together take {cost(folder / 'watch' / 'healthy-0'):.2f} ms a step")
    return few(accused, count)


def few(accused: list[tuple[Any, ...]], count: int) -> bool:
    """Print the plain runs with a report; whether they are at most one in 60."""
    print(f"{len(accused)} of {count} plain runs with a report")
    for entry in accused:
        print("  ", *entry)
    return len(accused) <= max(1, count // 60)


if __name__ == "__main__":
    command_line(__doc__, PLANTS, judge_run, healthy)
