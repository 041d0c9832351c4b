"""Log-probabilities of completions by the reference: the model as it is before training. Computed once and cached."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from kamerton.files import flush
from kamerton.model.loss import predict
from kamerton.model.switches import autocast_format, evaluation_mode
from kamerton.objective.pair_loss import sequence_sums
from kamerton.objective.sequences import EncodedExamples
from kamerton.plan.packing import Packing
from kamerton.train.batches import MicroBatches

VERSION = 1  # change it when the same model and data give other numbers


def reference_logprobs(  # noqa: PLR0913 - by keyword
    model: Any,
    data: EncodedExamples,
    fingerprint: str,
    *,
    cache: Path,
    max_tokens: int,
    packing: Packing,
    pad: int,
    precision: str = "32-true",
    progress: Callable[[int], None] = lambda done: None,
) -> npt.NDArray[np.float64]:
    """Return the log-probability of the targets of each sequence, in nats: (sequences,).

    They are read from the folder `cache` if it has those of the same model and data, which `fingerprint` identifies, in
    the same `precision`, which is that of training: so the ratio to the model before training is 1. `progress` is
    called with a number of sequences that are done.
    """
    key = hashlib.blake2b(f"{VERSION} {precision} {fingerprint} ".encode(), digest_size=16)
    file = cache / "reference" / f"{key.hexdigest()}.npy"
    if file.exists():
        progress(len(data))
        return np.asarray(np.load(file), np.float64)
    values = _compute(model, data, max_tokens, packing, pad, precision, progress)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".partial", delete=False) as part:
        np.save(part, values)
    flush(Path(part.name))
    os.replace(part.name, file)
    return values


def weights_fingerprint(model: nn.Module) -> str:
    """Return a hash of all weights and buffers of a model."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)} ".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _compute(
    model: Any,
    data: EncodedExamples,
    max_tokens: int,
    packing: Packing,
    pad: int,
    precision: str,
    progress: Callable[[int], None],
) -> npt.NDArray[np.float64]:
    device = next(model.parameters()).device
    half = autocast_format(precision)
    values = np.zeros(len(data))
    with evaluation_mode(model), torch.inference_mode(), torch.autocast(device.type, half) if half else nullcontext():
        for batch in MicroBatches(data, max_tokens=max_tokens, packing=packing, pad=pad):
            numbers = batch.numbers.numpy()
            result = predict(model, batch.rows.to(device))
            values[numbers] = sequence_sums(result, len(numbers)).cpu().numpy()
            progress(len(numbers))
    return values
