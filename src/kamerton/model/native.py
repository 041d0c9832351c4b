"""The element-wise parts of a decoder layer in C (`native.c`): compiled once for a machine, and never required.

torch needs four to seven operations for each, which read and write all of their input and start all threads every
time. A C compiler builds them the first time they are used, within a second or two; without one, and on other systems
than Linux, torch computes the same with other rounding. `KAMERTON_NATIVE=0` turns them off.

Arrays are float32 on the CPU. Threads are those of torch: the library uses the OpenMP runtime that torch has loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from kamerton.assets import cache_dir

_SOURCE = Path(__file__).with_name("native.c")
_COMPILERS = ("cc", "gcc", "clang", "g++")
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
_allowed = False
_ADDRESS, _COUNT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_SIGNATURES = {
    "rms_norm": (_ADDRESS, _ADDRESS, _FLOAT, _ADDRESS, _ADDRESS, _COUNT, _COUNT),
    "rms_norm_back": (_ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _COUNT),
    "silu_mul": (_ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _COUNT, _COUNT),
    "silu_mul_back": (_ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _COUNT),
    "int8_product": (_ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _COUNT, _COUNT),
    "rotate": (_ADDRESS, _COUNT, _COUNT, _ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _COUNT, _COUNT, _COUNT),
}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Return the compiled functions, built if necessary; None if this machine cannot build or load them."""
    runtime = _openmp()
    if runtime is None or os.environ.get("KAMERTON_NATIVE") == "0":
        return None
    try:
        ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)  # already loaded by torch; our functions find its symbols
        loaded = ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError):
        return None
    for name, types in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = types, None
    return loaded


def use(allowed: bool) -> bool:
    """Let the kernels of this process call the compiled functions, or not; return whether they will."""
    global _allowed
    _allowed = allowed and library() is not None
    return _allowed


def compiled_for(x: Tensor) -> ctypes.CDLL | None:
    """Return the compiled functions if they may be used, and for x; else None."""
    return library() if _allowed and x.dtype is torch.float32 and x.device.type == "cpu" else None


def _openmp() -> Path | None:
    """Return the OpenMP runtime that this process has loaded (with torch)."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return next((Path(line.split(maxsplit=5)[5]) for line in lines if "libgomp" in line), None)


def _built() -> Path:
    """Return the library for this source, compiler and processor. Raises `OSError` without a compiler."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=30).stdout
    parts = (_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), version, platform.machine().encode(), _processor())
    target = cache_dir() / "native" / f"{hashlib.sha256(b'|'.join(parts)).hexdigest()[:24]}.so"
    if target.exists():
        _check_owner(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as folder:
        compiled, linked = Path(folder, "native.o"), Path(folder, "native.so")
        # Linked without -fopenmp, which would bring a second runtime into the process.
        for arguments in (
            [*_FLAGS, "-c", str(_SOURCE), "-o", str(compiled)],
            ["-shared", str(compiled), "-o", str(linked), "-lm"],
        ):
            subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=120)
        linked.chmod(0o700)
        linked.replace(target)
    return target


def _check_owner(path: Path) -> None:
    """Raise `PermissionError` for a library that another user could have written."""
    stat = path.stat()
    if stat.st_uid != os.getuid() or stat.st_mode & 0o022:
        raise PermissionError(f"{path} can be written by others")


def _processor() -> bytes:
    """Return the instructions that the processor has."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.encode() for line in lines if line.lower().startswith(("flags", "features"))), b"")


def rms_norm(native: ctypes.CDLL, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return `x * scale * weight` and scale (..., 1), the reciprocal root of the mean square of each row of x."""
    out, scale = torch.empty_like(x), x.new_empty(*x.shape[:-1], 1)
    native.rms_norm(x.data_ptr(), weight.data_ptr(), eps, out.data_ptr(), scale.data_ptr(), scale.numel(), x.shape[-1])
    return out, scale


def rms_norm_back(native: ctypes.CDLL, grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the gradient of x."""
    grad, of_x = grad.contiguous(), torch.empty_like(x)
    addresses = (grad.data_ptr(), x.data_ptr(), weight.data_ptr(), scale.data_ptr(), of_x.data_ptr())
    native.rms_norm_back(*addresses, scale.numel(), x.shape[-1])
    return of_x


def silu_mul(native: ctypes.CDLL, gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up (T, N); both inputs have the same strides, (s, 1)."""
    out = gate.new_empty(gate.shape)
    native.silu_mul(gate.data_ptr(), up.data_ptr(), gate.stride(0), out.data_ptr(), *gate.shape)
    return out


def silu_mul_back(native: ctypes.CDLL, gate: Tensor, up: Tensor, of_hidden: Tensor) -> Tensor:
    """Return the gradients of gate and up side by side (T, 2 N), from that of their `silu_mul` (T, N)."""
    rows, n = gate.shape
    both = gate.new_empty(rows, 2 * n)
    of_hidden = of_hidden.contiguous()
    addresses = (gate.data_ptr(), up.data_ptr(), gate.stride(0), of_hidden.data_ptr(), both.data_ptr())
    native.silu_mul_back(*addresses, rows, n)
    return both


def rotate(native: ctypes.CDLL, x: Tensor, cos: Tensor, sin: Tensor, *, transposed: bool) -> Tensor:
    """Rotate x (1, H, T, D), any strides but the last, by cos and sin (T, D); the output is (1, T, H, D) in memory."""
    _, heads, rows, d = x.shape
    out = x.new_empty(1, rows, heads, d)
    addresses = (x.data_ptr(), x.stride(2), x.stride(1), cos.data_ptr(), sin.data_ptr(), out.data_ptr())
    native.rotate(*addresses, rows, heads, d, int(transposed))
    return out.transpose(1, 2)
