"""Tokens a second of the server's engine, for one stream and for eight, next to transformers' own `generate`.

    python scripts/bench/generation.py --model smollm2 --tokens 48 --repeats 3

One process, the same weights, threads and prompts, no end of turn; sides take turns, medians [least, most] are printed.
`generate` answers eight prompts one after the other, as a loop over requests does, and as one batch of equal lengths.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from kamerton.config.compose import compose_values
from kamerton.data.example import Message
from kamerton.model.load import load_model
from kamerton.server.generation.engine import Engine
from kamerton.server.generation.model_cache import Models, Served

PROMPT = "Explain in a few words what a tuning fork is, number {}."


class Endless:
    """One model none of whose answers ends by itself."""

    def __init__(self, served: Served) -> None:
        self.served = replace(served, ends=frozenset())

    def get(self, source: str, modified: object) -> Served:
        """The model, whatever is asked for."""
        return self.served


def engine_side(models: Endless, name: str, tokens: int, streams: int) -> float:
    """Seconds until every stream has its tokens."""
    messages: list[dict[str, Any]] = []
    engine = Engine(models, messages.append, 8)
    start = time.perf_counter()
    for i in range(streams):
        own = {"temperature": 0.0, "top_p": 1.0, "seed": 0, "stop": [], "max_tokens": tokens, "text": None}
        engine.add({"id": str(i), "source": name, "turns": [["user", PROMPT.format(i), 1.0]], **own})
    while not engine.idle:
        engine.step()
    seconds = time.perf_counter() - start
    tokens_generated = sum(message["tokens"] for message in messages if message.get("finish"))
    assert tokens_generated == streams * tokens, f"{tokens_generated} tokens: an answer ended early"
    return seconds


def generate_side(model: Any, prompts: list[list[int]], tokens: int, size: int) -> float:
    """The same with `model.generate`, `size` prompts a call."""
    start = time.perf_counter()
    for at in range(0, len(prompts), size):
        ids = torch.tensor(prompts[at : at + size])
        own = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
        model.generate(ids, attention_mask=torch.ones_like(ids), **own)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    served = Models(most=1, context=4096).get(options.model, ())
    models, rounded = Endless(served), Endless(Models(most=1, context=4096, quantize="int8").get(options.model, ()))
    plain = load_model(compose_values([f"model={options.model}"])["model"]["name"]).eval()
    prompts = [served.chat_tokens([Message("user", PROMPT.format(i))]) for i in range(8)]
    sides: dict[str, tuple[int, Callable[[], float]]] = {
        "engine, 1 stream": (1, lambda: engine_side(models, options.model, options.tokens, 1)),
        "engine, 1 stream, int8": (1, lambda: engine_side(rounded, options.model, options.tokens, 1)),
        "generate, 1 prompt": (1, lambda: generate_side(plain, prompts[:1], options.tokens, 1)),
        "engine, 8 streams": (8, lambda: engine_side(models, options.model, options.tokens, 8)),
        "engine, 8 streams, int8": (8, lambda: engine_side(rounded, options.model, options.tokens, 8)),
        "generate, 8 prompts in turn": (8, lambda: generate_side(plain, prompts, options.tokens, 1)),
        "generate, 8 prompts as a batch": (8, lambda: generate_side(plain, prompts, options.tokens, 8)),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, (streams, run) in sides.items():
            rates[name].append(streams * options.tokens / run())
    print(f"| side, {options.threads} threads | tokens/s |\n| --- | --- |")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}] |")


if __name__ == "__main__":
    main()
