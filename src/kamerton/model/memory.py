"""Settings of the C library's memory allocation for training on a CPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of mallopt(3)


def keep_memory() -> bool:
    """Let glibc keep freed memory for the next step; return False if the C library has no such setting.

    By default the kernel maps every large tensor again and zeroes it page by page, which takes a fifth of a step.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 2**26))
    return all(mallopt(parameter, value) for parameter, value in settings)


def release_memory() -> None:
    """Return free memory to the system; does nothing if the C library has no such function."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
