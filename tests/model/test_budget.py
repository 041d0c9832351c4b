"""The token limit of a pass grows with memory, respects a control group's limit, and stays within its bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kamerton.model import budget
from kamerton.model.budget import CEILING, FLOOR, bytes_per_token, control_group_memory, find_max_tokens, free_memory
from kamerton.model.capabilities import choose_packing
from kamerton.model.tiny import tiny_model


def test_tokens_grow_with_free_memory_between_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    result = []
    for free in (0, 10**7, 2 * 10**7, 3 * 10**7, 10**8, 10**12, None):
        monkeypatch.setattr(budget, "free_memory", lambda device, free=free: free)
        result.append(find_max_tokens(model, trains_all=False))
    assert result[0] == FLOOR
    assert result == sorted(result)
    assert len(set(result)) > 2
    assert result[-2:] == [CEILING["cpu"]] * 2
    assert all(tokens % FLOOR == 0 for tokens in result)


def test_processes_and_trained_weights_take_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(budget, "free_memory", lambda device: int(1300 * bytes_per_token(model) / budget._SPARE))
    alone = find_max_tokens(model, trains_all=False)
    assert alone == 1280
    assert find_max_tokens(model, trains_all=False, processes=2) == 512
    assert find_max_tokens(model, trains_all=True) < alone


@pytest.mark.parametrize("packing", ["padded", "tree"])
def test_what_a_token_keeps_is_at_least_its_layers_activations(packing: str) -> None:
    model = tiny_model().train()
    choose_packing(model, packing)  # type: ignore[arg-type]
    state = torch.get_rng_state()
    kept = bytes_per_token(model)
    # Llama, per layer: two norms' inputs (64 wide), q, k, v and the attention's output, three of the MLP (128 wide).
    least = 2 * 4 * (2 * 64 + 64 + 2 * 32 + 64 + 3 * 128)
    assert least < kept < 6 * least
    assert torch.equal(torch.get_rng_state(), state)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_control_groups_limit_counts(tmp_path: Path) -> None:
    files = {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 500\ninactive_file 150"}
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert control_group_memory(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert control_group_memory(tmp_path) is None
    assert control_group_memory(tmp_path / "missing") is None


def test_the_memory_of_this_machine_is_known() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is not None
    assert free > 10**7
