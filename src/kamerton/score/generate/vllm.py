"""Generate answers with vLLM, an optional package that is imported lazily."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from kamerton.config.model_options import ModelOptions
from kamerton.errors import Fault
from kamerton.score.generate.batched import Prompt
from kamerton.score.generate.sampling import Decoding

GeneratedRow = dict[str, Any]


def check_vllm() -> list[Fault]:
    """Return a fault if vLLM is not installed."""
    if importlib.util.find_spec("vllm") is not None:
        return []
    message = "engine=vllm needs the package vllm, which is not installed"
    return [
        Fault("engine.package", message, "pip install 'kamerton[vllm]', on a machine with a GPU", column="engine.kind")
    ]


def vllm_answers(
    prompts: Sequence[Prompt],
    model: ModelOptions,
    decoding: Decoding,
    read: Callable[[int, Sequence[int]], GeneratedRow],
    *,
    ends: frozenset[int],
) -> list[GeneratedRow]:
    """Return the columns of the answer to each tokenised prompt; sampling uses vLLM's random numbers.

    `read` returns those of the generated tokens, by position of the prompt.
    """
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=model.name, revision=model.revision, dtype=model.dtype, trust_remote_code=model.trust_remote_code
    )
    params = SamplingParams(
        max_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        seed=decoding.seed,
        stop_token_ids=sorted(ends),
    )
    inputs = [{"prompt_token_ids": prompt.tokens.tolist()} for prompt in prompts]
    outputs = [output.outputs[0] for output in engine.generate(inputs, params)]
    rows = []
    for i, output in enumerate(outputs):
        row = read(i, [token for token in output.token_ids if token not in ends])
        text = row if "generated" in row else {**row, "prediction": output.text}
        rows.append({**text, "finish_reason": output.finish_reason})
    return rows
