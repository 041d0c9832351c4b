"""The memory of a pass at its peak over what it keeps for its backward pass: `batch.max_tokens=auto` rests on it.

    python scripts/bench/budget.py [--model smollm2|tiny]

Every shape is a process of its own: rows without a shared prefix in one pass, the last part of each row being targets.
The gradients of the weights are there before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

# adapter, model.fused, tokens of a row, tokens of the pass, share of them that are targets
SHAPES = (
    ("lora", "fused", 128, 512, 0.125),
    ("lora", "fused", 128, 2048, 0.125),
    ("lora", "fused", 128, 2048, 0.75),
    ("lora", "fused", 1024, 2048, 0.125),
    ("lora", "plain", 128, 2048, 0.125),
    ("full", "fused", 128, 512, 0.125),
    ("full", "fused", 128, 2048, 0.125),
    ("full", "fused", 128, 2048, 0.75),
    ("full", "plain", 128, 2048, 0.75),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--measure", nargs=5)
    options = parser.parse_args()
    if options.measure:
        kind, kernels, row, tokens, share = options.measure
        print("RESULT " + measure(options.model, kind, kernels, int(row), int(tokens), float(share)))
        return
    print("| adapter | kernels | rows | tokens | targets | kept, MiB | at the peak, MiB | ratio |")
    print("| --- " * 8 + "|")
    for shape in SHAPES:
        command = [sys.executable, "-W", "ignore", __file__, "--model", options.model, "--measure", *map(str, shape)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(
            next(line.removeprefix("RESULT ") for line in output.splitlines() if line.startswith("RESULT ")), flush=True
        )


def measure(name: str, kind: Any, kernels: str, row: int, tokens: int, share: float) -> str:
    """One row of the table."""
    import numpy as np

    from kamerton.config.compose import compose_values
    from kamerton.model.adapter import apply_adapter
    from kamerton.model.budget import bytes_per_token
    from kamerton.model.capabilities import choose_packing
    from kamerton.model.fuse import fuse
    from kamerton.model.load import load_model
    from kamerton.model.loss import predict
    from kamerton.model.memory import keep_memory
    from kamerton.model.tree import build_row

    keep_memory()
    model = load_model(compose_values([f"model={name}"])["model"]["name"])
    if kernels == "fused":
        fuse(model)
    choose_packing(model, "packed")
    bytes_kept = bytes_per_token(model) * tokens  # as a run finds it: before the adapter comes
    tuned = apply_adapter(model, kind=kind)
    if kernels == "fused":
        fuse(tuned)
    draw = np.random.default_rng(0)

    def run(size: int) -> int:
        length = min(row, size)
        rows = [draw.integers(3, 200, length).astype(np.int32) for _ in range(size // length)]
        marks = [np.arange(length) >= length * (1 - share) for _ in rows]
        predict(tuned, build_row(rows, marks, share=False)).loss.sum().backward()
        return sum(int(mark.sum()) for mark in marks)

    run(128)  # gradients, first allocations
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    targets = run(tokens)
    peak = status("VmHWM") - before
    sizes = f"{bytes_kept / 2**20:,.0f} | {peak / 2**20:,.0f} | {peak / bytes_kept:.2f}"
    return f"| {kind} | {kernels} | {row} | {tokens} | {targets} | {sizes} |"


def status(key: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{key}:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
