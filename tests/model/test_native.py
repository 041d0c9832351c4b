"""The compiled element-wise parts equal torch's operations, and torch computes them where nothing can be compiled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kamerton.model import native
from kamerton.model.kernels import rms_norm, rotary
from kamerton.model.projections import Projection, gated_mlp

needs_compiler = pytest.mark.skipif(native.library() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """The choice of this process after each test as before."""
    torch.manual_seed(0)
    before = native._allowed
    yield
    native._allowed = before


def both(compute: object, *inputs: Tensor) -> list[list[Tensor]]:
    """Outputs and gradients of the inputs, with compiled functions and without."""
    results = []
    for allowed in (True, False):
        native.use(allowed)
        leaves = [value.clone().requires_grad_() for value in inputs]
        outputs = compute(*leaves)  # type: ignore[operator]
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        weights = [torch.linspace(-1, 2, out.numel()).view_as(out) for out in outputs]
        total = sum((out * weight).sum() for out, weight in zip(outputs, weights, strict=True))
        results.append([*outputs, *torch.autograd.grad(total, leaves)])  # type: ignore[arg-type]
    return results


def assert_equal(results: list[list[Tensor]]) -> None:
    for compiled, expected in zip(*results, strict=True):
        torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 7), (37, 576)])
def test_the_norm_is_that_of_torch(rows: int, n: int) -> None:
    x, weight = torch.randn(1, rows, n) * 3, torch.randn(n)
    assert_equal(both(lambda states: rms_norm(states, weight, 1e-5), x))
    assert_equal(both(lambda states, scale: rms_norm(states, scale, 1e-5), x, weight))


@needs_compiler
@pytest.mark.parametrize("heads", [(4, 2), (3, 1)])
def test_the_rotation_is_that_of_torch_for_every_layout(heads: tuple[int, int]) -> None:
    angle = torch.randn(1, 1, 11, 8)

    def compute(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return rotary(query.transpose(1, 2), key.transpose(1, 2), angle.cos(), angle.sin())

    assert_equal(both(compute, *(torch.randn(1, 11, count, 8) for count in heads)))
    joined = torch.randn(1, 11, sum(heads), 8)
    assert_equal(both(lambda states: compute(*states.split_with_sizes(heads, dim=2)), joined))


@needs_compiler
@pytest.mark.parametrize("several", [False, True])
def test_rotations_that_are_not_compiled_are_those_of_torch(several: bool) -> None:
    angle = torch.randn(2 if several else 1, 1, 5, 6)
    query = torch.randn(2, 4, 5, 6)
    assert_equal(both(lambda states: rotary(states, states[:, :2], angle.cos(), angle.sin()), query))


@needs_compiler
def test_the_gated_layer_is_that_of_torch() -> None:
    gate, up, down = torch.randn(48, 16), torch.randn(48, 16), torch.randn(16, 48)

    def compute(x: Tensor) -> Tensor:
        return gated_mlp(x, Projection(gate), Projection(up), Projection(down))

    assert_equal(both(compute, torch.randn(1, 9, 16)))


@needs_compiler
def test_silu_of_extreme_inputs() -> None:
    x = torch.tensor([[-1e4, -100.0, -88.0, -1e-3, 0.0, 1e-3, 50.0, 88.0, 1e4, torch.nan]])
    library = native.library()
    assert library is not None
    result = native.silu_mul(library, x, torch.ones_like(x))
    torch.testing.assert_close(result, F.silu(x), equal_nan=True)


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    native.use(True)
    x, weight, threads = torch.randn(1, 50, 96), torch.randn(96), torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(rms_norm(x, weight, 1e-5))
    torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("reason", ["no compiler", "turned off", "compiler fails"])
def test_without_the_library_torch_computes(reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path / "cache"))
    if reason == "turned off":
        monkeypatch.setenv("KAMERTON_NATIVE", "0")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    if reason == "compiler fails":
        (tmp_path / "cc").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "cc").chmod(0o755)
    native.library.cache_clear()
    try:
        assert native.library() is None
        assert not native.use(True)
        x, weight = torch.randn(2, 8), torch.ones(8)
        torch.testing.assert_close(rms_norm(x, weight, 1e-5), F.rms_norm(x, (8,), weight, 1e-5))
    finally:
        native.library.cache_clear()


@needs_compiler
def test_a_library_that_others_can_write_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path))
    native.library.cache_clear()
    try:
        assert native.library() is not None
        (built,) = (tmp_path / "native").glob("*.so")
        built.chmod(0o722)
        native.library.cache_clear()
        assert native.library() is None
    finally:
        native.library.cache_clear()
