"""A model's limits by its configuration: the number of positions, and of tokens in its embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kamerton.model.load import load_config

_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
_EXTENDED = ("linear", "dynamic", "yarn")  # ways to extend rotary positions beyond the configured number


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Positions of a sequence and rows of the embedding; None: unlimited or unknown."""

    positions: int | None = None
    tokens: int | None = None


def load_limits(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> ModelLimits:
    """Return the limits of a model by its name, without loading weights."""
    return limits_of(load_config(name, revision=revision, trust_remote_code=trust_remote_code))


def limits_of(config: Any) -> ModelLimits:
    """Return the limits of a transformers configuration."""
    tokens = getattr(_text_config(config), "vocab_size", None)
    return ModelLimits(positions_of(config), tokens if isinstance(tokens, int) and tokens > 0 else None)


def positions_of(config: Any) -> int | None:
    """Return the maximum number of positions of a sequence, extended as the configuration sets; None: unlimited.

    A sliding window is not a limit, because it only bounds how far each token looks back. Models with ALiBi have none.
    """
    config = _text_config(config)
    attention = getattr(config, "attn_config", None)  # MPT
    if getattr(config, "alibi", False) or getattr(attention, "alibi", False):
        return None
    for name in _POSITIONS:
        positions = getattr(config, name, None)
        if isinstance(positions, int) and positions > 0:
            scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
            if not isinstance(scaling, dict):
                return positions
            by_layer_type = [value for value in scaling.values() if isinstance(value, dict)]
            return max(positions, *(_extended(values, positions) for values in by_layer_type or [scaling]))
    return None


def _text_config(config: Any) -> Any:
    """Return the text part of a configuration; multimodal models have further parts."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _extended(scaling: dict[str, Any], positions: int) -> int:
    """Return `positions` times the factor, which for YaRN is that of the original positions (arXiv 2309.00071)."""
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    if kind not in _EXTENDED or not isinstance(factor, int | float):
        return positions
    original = scaling.get("original_max_position_embeddings") if kind == "yarn" else None
    return int((original or positions) * factor)
