"""What each switch of speed and memory does, measured: examples per second, peak memory, time to the first step, loss.

    python scripts/bench/switches.py [--steps 8] [--repeats 2] [--adapter lora|full] [--model smollm2|tiny]

Every measurement is a process of its own, making the same optimizer steps on the TREC questions; the switches take
turns.
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

SWITCHES = (
    [],
    ["model.fused=false"],
    ["model.compile=true"],
    ["model.gradient_checkpointing=true"],
    ["batch.max_tokens=256"],
    ["model.matmul=bfloat16"],
    ["trainer.precision=bf16-mixed"],
    ["threads=1"],
    ["batch.cut=padded"],
    ["batch.cut=padded", "model.attn=eager"],
)
SKIPPED = 2  # first steps: allocation, warm-up, compiling


def main() -> None:
    """Parent: every switch in turn, then a table. Child (`--measure`): one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--adapter", default="lora")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--measure", nargs="*")
    options = parser.parse_args()
    common = [f"model={options.model}", f"adapter={options.adapter}", "batch.size=8"]
    if options.measure is not None:
        print("RESULT " + json.dumps(measure([*common, *options.measure], options.steps)))
        return
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.repeats):
        for overrides in SWITCHES:
            results.setdefault(" ".join(overrides) or "default", []).append(child(overrides, options))
    table(results)


def child(overrides: list[str], options: argparse.Namespace) -> dict[str, float]:
    """One measurement in its own process."""
    command = [sys.executable, "-W", "ignore", __file__, "--steps", str(options.steps), "--adapter", options.adapter]
    command += ["--model", options.model, "--measure", *overrides]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    (line,) = (line for line in output.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))  # type: ignore[no-any-return]


def table(results: dict[str, list[dict[str, float]]]) -> None:
    """Medians, as Markdown."""
    print("| switch | examples/s | peak memory, MB | first step, s | loss of the last step |")
    print("| --- | --- | --- | --- | --- |")
    for name, measurements in results.items():
        speed, peak, first = (
            statistics.median(measurement[key] for measurement in measurements)
            for key in ("examples_per_s", "peak_mb", "first_s")
        )
        print(f"| `{name}` | {speed:.2f} | {peak:,.0f} | {first:.1f} | {measurements[0]['loss']:.5f} |")


def measure(overrides: list[str], steps: int) -> dict[str, float]:
    """The main job's model, module and trainer for `steps` steps."""
    import pytorch_lightning as pl
    import torch

    from kamerton.assets import cache_dir
    from kamerton.config.check import to_config
    from kamerton.config.compose import compose_values
    from kamerton.data.encode.arrays import encode
    from kamerton.data.gate import prepare
    from kamerton.data.read.sources import local_data
    from kamerton.model.capabilities import choose_packing
    from kamerton.model.load import load_model, load_tokenizer
    from kamerton.model.switches import set_attention
    from kamerton.run.model import adapt
    from kamerton.train.build import optimizer_factory, scheduler_factory
    from kamerton.train.data_module import FineTuneData
    from kamerton.train.module import FineTuneModule

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.ends = [time.perf_counter()]

        def on_train_start(self, *_: Any) -> None:
            self.ends = [time.perf_counter()]

        def on_train_batch_end(self, *_: Any) -> None:
            self.ends.append(time.perf_counter())

    config = to_config(compose_values(overrides))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    cache = cache_dir() / "data"
    rows = prepare(local_data(config.data), config.split, cache=cache).splits["train"]
    tokenizer = load_tokenizer(config.model.name)
    encoded = encode(rows, tokenizer, max_length=1024, overlong="error", cache=cache, name="train")
    model = load_model(config.model.name)
    packing = choose_packing(model, config.batch.cut).packing
    if config.model.attn is not None:
        set_attention(model, config.model.attn)
    torch.manual_seed(0)
    clock = Clock()
    module = FineTuneModule(
        adapt(config, model),
        optimizer_factory(config),
        scheduler_factory(config),
        total_steps=steps,
        clip_norm=config.clip_norm,
        seed=config.seed,
    )
    tokens = 2048 if config.batch.max_tokens == "auto" else config.batch.max_tokens  # the ceiling of a CPU
    batch: dict[str, Any] = {"batch_size": config.batch.size, "max_tokens": tokens, "packing": packing}
    data = FineTuneData(encoded, None, seed=config.seed, pad=tokenizer.pad_token_id, **batch)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_steps=steps,
        callbacks=[clock],
        enable_checkpointing=False,
        precision=config.trainer["precision"],
        **quiet,
    )
    trainer.fit(module, datamodule=data)
    return {
        "examples_per_s": config.batch.size * (steps - SKIPPED) / (clock.ends[-1] - clock.ends[SKIPPED]),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "first_s": clock.ends[1] - clock.ends[0],
        "loss": float(trainer.callback_metrics["train/loss"]),
    }


if __name__ == "__main__":
    main()
