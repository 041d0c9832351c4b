"""Log-probabilities of generated tokens, in the format of chat completions.

Shapes: V vocabulary.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kamerton.server.generation.model_cache import Served

_LEAST = -9999.0  # of a token without any probability: JSON has no infinity


def log_probabilities(served: Served, logits: Tensor, token: int, top: int) -> dict[str, Any]:
    """Return the log-probability of a token under logits (V), and the `top` most likely tokens with theirs.

    They are those of the model, whatever the temperature and `top_p`.
    """
    values = logits.double().log_softmax(dim=-1)
    best, order = values.topk(min(top, len(values)))
    likely = [_entry(served, *pair) for pair in zip(order.tolist(), best.tolist(), strict=True)]
    return {**_entry(served, token, float(values[token])), "top_logprobs": likely}


def _entry(served: Served, token: int, value: float) -> dict[str, Any]:
    """Return a token with its text; `bytes` is None for a part of a character."""
    text = str(served.tokenizer.decode([token], skip_special_tokens=False))
    content = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": max(value, _LEAST), "bytes": content}
