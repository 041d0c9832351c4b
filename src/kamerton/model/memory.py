"""How the C library hands out memory while a model trains on a CPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of mallopt(3)


def keep_memory() -> bool:
    """Return Have glibc keep freed memory for the next step; False where there is no such setting.

    By default every large tensor is mapped anew and zeroed page by page by the kernel: a fifth of a step's time.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 2**26))
    return all(mallopt(parameter, value) for parameter, value in settings)


def give_back() -> None:
    """Return to the system what was kept and is free now; nothing where the C library has no such function."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
