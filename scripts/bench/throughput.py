"""Training throughput of Kamerton against a plain PyTorch loop, interleaved in one run.

    python scripts/bench/throughput.py [--steps 12] [--repeats 3] [--model smollm2|tiny]

Both sides make the same optimizer steps: the same examples in the same steps, LoRA on the same layers, the same
optimizer, schedule and clipping. `loop` is what one would write by hand: right-padded batches, an attention mask,
labels of -100, the model's own loss, backward, clip, step. The others are the main job's module and trainer with each
cut. Every measurement is a process of its own, so that peak memory is its own too.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

SIDES = ("loop", "padded", "packed", "tree")
SKIPPED = 2  # first steps: allocation and warm-up


def main() -> None:
    """Parent: run every side `repeats` times, in turn, and print a table. Child (`--side`): one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--side", choices=SIDES)
    options = parser.parse_args()
    if options.side:
        print("RESULT " + json.dumps(measure(options.side, options.model, options.steps)))
        return
    results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for repeat in range(options.repeats):
        for side in SIDES[repeat % len(SIDES) :] + SIDES[: repeat % len(SIDES)]:
            results[side].append(child(side, options))
            print(f"repeat {repeat + 1}: {side:<7}{results[side][-1]['examples_per_s']:.2f} examples/s", flush=True)
    table(results)


def child(side: str, options: argparse.Namespace) -> dict[str, float]:
    """One measurement in its own process."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        __file__,
        "--side",
        side,
        "--model",
        options.model,
        "--steps",
        str(options.steps),
    ]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    (line,) = (line for line in output.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))  # type: ignore[no-any-return]


def table(results: dict[str, list[dict[str, float]]]) -> None:
    """Medians with their spread, and ratios to the plain loop taken repeat by repeat."""
    print(f"\n{'side':<9}{'examples/s':>22}{'ratio to loop':>24}{'peak MB':>10}{'last loss':>12}")
    for side, measurements in results.items():
        speed = [measurement["examples_per_s"] for measurement in measurements]
        loops = [measurement["examples_per_s"] for measurement in results["loop"]]
        ratio = [mine / loop for mine, loop in zip(speed, loops, strict=True)]
        memory = statistics.median(measurement["peak_mb"] for measurement in measurements)
        print(f"{side:<9}{spread(speed):>22}{spread(ratio):>24}{memory:>10.0f}{measurements[0]['loss']:>12.5f}")


def spread(values: list[float]) -> str:
    """median [min, max]"""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def measure(side: str, model_name: str, steps: int) -> dict[str, float]:
    """Examples per second after the first steps, the loss of the last, and the process's peak resident memory."""
    import torch

    torch.manual_seed(0)
    job = prepare(model_name, "padded" if side == "loop" else side)
    ends, loss = hand_written(job, steps) if side == "loop" else with_kamerton(job, steps)
    examples = job["config"].batch.size * (steps - SKIPPED)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"examples_per_s": examples / (ends[-1] - ends[SKIPPED - 1]), "loss": loss, "peak_mb": peak}


def prepare(model_name: str, packing: str) -> dict[str, Any]:
    """Data, model and options of the main job."""
    from kamerton.assets import cache_dir
    from kamerton.config.check import to_config
    from kamerton.config.compose import compose_values
    from kamerton.data.encode.arrays import encode
    from kamerton.data.gate import prepare as prepare_data
    from kamerton.data.read.sources import local_data
    from kamerton.model.adapter import apply_adapter
    from kamerton.model.attention import ATTENTION, register_attention
    from kamerton.model.load import load_model, load_tokenizer

    config = to_config(compose_values([f"model={model_name}", f"batch.cut={packing}"]))
    cache = cache_dir() / "data"
    rows = prepare_data(local_data(config.data), config.split, cache=cache).splits["train"]
    tokenizer = load_tokenizer(config.model.name)
    data = encode(
        rows, tokenizer, max_length=config.data.max_length, overlong=config.data.overlong, cache=cache, name="train"
    )
    model = load_model(config.model.name)
    if packing != "padded":
        register_attention()
        model.set_attn_implementation(ATTENTION)
    tuned = apply_adapter(model, kind="lora", r=config.adapter.r, alpha=config.adapter.alpha)
    return {"config": config, "data": data, "model": tuned, "pad": tokenizer.pad_token_id}


def hand_written(job: dict[str, Any], steps: int) -> tuple[list[float], float]:
    """The plain loop: end time of each step and the last loss."""
    import torch
    from transformers import get_scheduler

    from kamerton.plan.epoch import membership
    from kamerton.train.schedule import WARMUP

    config, data, model = job["config"], job["data"], job["model"]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    options = {key: value for key, value in config.optimizer.items() if not key.startswith("_")}
    optimizer = torch.optim.AdamW(trained, **options)
    schedule = get_scheduler(config.scheduler.name, optimizer, config.scheduler.warmup_steps or WARMUP, steps)
    order = membership(len(data), seed=config.seed, epoch=0)
    ends, size, loss = [], config.batch.size, torch.tensor(0.0)
    for step in range(steps):
        ids, mask, labels = batch_of(data, order[step * size : (step + 1) * size], job["pad"])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        ends.append(time.perf_counter())
    return ends, float(loss.detach())


def batch_of(data: Any, rows: Any, pad: int) -> tuple[Any, Any, Any]:
    """Token ids, attention mask and labels, padded on the right."""
    import torch

    longest = max(int(data.lengths[row]) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for position, row in enumerate(rows):
        tokens = torch.from_numpy(data.tokens(row).astype("int64"))
        target = torch.from_numpy(data.targets(row).copy())
        ids[position, : len(tokens)] = tokens
        mask[position, : len(tokens)] = 1
        labels[position, : len(tokens)][target] = tokens[target]
    return ids, mask, labels


def with_kamerton(job: dict[str, Any], steps: int) -> tuple[list[float], float]:
    """The main job's module and trainer: end time of each step and the last loss."""
    import pytorch_lightning as pl

    from kamerton.model.fuse import fuse
    from kamerton.train.build import optimizer_factory, scheduler_factory
    from kamerton.train.data_module import FineTuneData
    from kamerton.train.module import FineTuneModule

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_batch_end(self, *_: Any) -> None:
            self.ends.append(time.perf_counter())

    config, clock = job["config"], Clock()
    fuse(job["model"])
    optimizer, scheduler = optimizer_factory(config), scheduler_factory(config)
    module = FineTuneModule(
        job["model"], optimizer, scheduler, total_steps=steps, clip_norm=config.clip_norm, seed=config.seed
    )
    tokens = 2048 if config.batch.max_tokens == "auto" else config.batch.max_tokens  # the ceiling of a CPU
    batch = {"batch_size": config.batch.size, "max_tokens": tokens, "packing": config.batch.cut}
    data = FineTuneData(job["data"], None, seed=config.seed, pad=job["pad"], **batch)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", max_steps=steps, callbacks=[clock], enable_checkpointing=False, **quiet)
    trainer.fit(module, datamodule=data)
    return clock.ends, float(trainer.callback_metrics["train/loss"])


if __name__ == "__main__":
    main()
