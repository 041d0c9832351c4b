"""What planning an epoch costs, for 10^5 and 10^6 rows of 20 to 79 tokens that share a prefix of 15.

python scripts/bench/plan.py
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kamerton.plan.epoch import plan_epoch
from kamerton.plan.packing import Packing, pack_examples


def main() -> None:
    for rows in (10**5, 10**6):
        draw = np.random.default_rng(0)
        lengths = draw.integers(20, 80, rows).astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        flat = draw.integers(0, 49152, starts[-1], dtype=np.int32)
        for offset, token in enumerate(draw.integers(0, 49152, 15)):
            flat[starts[:-1] + offset] = token
        packings: tuple[Packing, ...] = ("tree", "packed", "padded")
        for packing in packings:
            measure(
                rows, lengths, packing, lambda index, starts=starts, flat=flat: flat[starts[index] : starts[index + 1]]
            )
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", flush=True)


def measure(rows: int, lengths: Any, packing: Packing, tokens: Callable[[int], Any]) -> None:
    options: dict[str, Any] = {"seed": 1, "epoch": 0, "batch_size": 16, "max_tokens": 2048, "packing": packing}
    plan, planned = timed(lambda: plan_epoch(lengths, lengths, tokens=tokens, **options))
    share, estimated = timed(plan.compute_ratio)
    _, stepped = timed(lambda: [plan[index] for index in range(200)])
    _, whole = timed(lambda: pack_examples(range(min(rows, 10**5)), lengths, 2048, packing, tokens))
    print(
        f"{rows:>9,} rows {packing:>6}: plan {planned:.3f} s, share {share[0]:.2f} in {estimated:.3f} s,"
        f" a step {stepped / 200 * 1e6:.0f} us, 100,000 rows for scoring {whole:.2f} s"
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    before = time.perf_counter()
    return work(), time.perf_counter() - before


if __name__ == "__main__":
    main()
