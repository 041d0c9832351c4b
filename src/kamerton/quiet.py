"""Silence the frameworks: Kamerton reports what a user must know.

`quiet_frameworks` is for a whole command, before any of them is imported; `quiet` is for a part of a process that may
belong to others, such as a notebook. Both keep errors.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "WANDB_SILENT": "true",
}
_NOISY = ("transformers", "huggingface_hub", "peft", "bitsandbytes")


def quiet_frameworks() -> None:
    """Turn off progress bars, notices and warnings of frameworks, here and in processes that this one starts.

    Variables that the user has set win: `TRANSFORMERS_VERBOSITY=info` shows notices.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ["TRANSFORMERS_VERBOSITY"] != "error":
        return
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{name}\b")


def quiet_training() -> None:
    """`quiet_frameworks`, and Lightning as well."""
    quiet_frameworks()
    import pytorch_lightning  # noqa: F401 (sets its loggers' levels when it is imported)

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Turn off the progress bars, retries and advice of transformers and its hub inside the block."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging as transformers

    level, bars, of_hub = transformers.get_verbosity(), transformers.is_progress_bar_enabled(), hub.get_verbosity()
    transformers.set_verbosity_error()
    hub.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        with _no_bars(), warnings.catch_warnings():
            for name in _NOISY:
                warnings.filterwarnings("ignore", module=rf"{name}\b")
            yield
    finally:
        transformers.set_verbosity(level)
        hub.set_verbosity(of_hub)
        if bars:
            transformers.enable_progress_bar()


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Turn off every bar of tqdm: transformers' GGUF reader ignores the switches above."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    bar: Any = tqdm
    before = bar.__init__
    bar.__init__ = functools.partialmethod(before, disable=True)
    try:
        yield
    finally:
        bar.__init__ = before
