"""What a model can be fed: how many positions it has, and how many tokens its embedding; read off its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kamerton.model.load import load_config

_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
_STRETCHED = ("linear", "dynamic", "yarn")  # how rotary positions are stretched beyond what is configured


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Positions of a sequence and rows of the embedding; None: no limit, or none is known."""

    positions: int | None = None
    tokens: int | None = None


def load_limits(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> ModelLimits:
    """Return the limits of a model by its name, without its weights."""
    return limits_of(load_config(name, revision=revision, trust_remote_code=trust_remote_code))


def limits_of(config: Any) -> ModelLimits:
    """Return the limits that a transformers configuration tells."""
    tokens = getattr(_text_config(config), "vocab_size", None)
    return ModelLimits(positions_of(config), tokens if isinstance(tokens, int) and tokens > 0 else None)


def positions_of(config: Any) -> int | None:
    """Return how many positions a sequence may have, stretched as the configuration says.

    A sliding window is no limit: it bounds how far each token looks back. Neither have models with ALiBi one.
    """
    config = _text_config(config)
    attention = getattr(config, "attn_config", None)  # MPT
    if getattr(config, "alibi", False) or getattr(attention, "alibi", False):
        return None
    for name in _POSITIONS:
        positions = getattr(config, name, None)
        if isinstance(positions, int) and positions > 0:
            return max(positions, *(_stretched(scaling, positions) for scaling in _scalings(config)), 0)
    return None


def _text_config(config: Any) -> Any:
    """Return the part of a configuration that is about text; models of several modalities have more."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _scalings(config: Any) -> list[dict[str, Any]]:
    """Return the settings of rotary positions: of the whole model, or of each kind of its layers."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(found, dict):
        return []
    of_layers = [value for value in found.values() if isinstance(value, dict)]
    return of_layers or [found]


def _stretched(scaling: dict[str, Any], positions: int) -> int:
    """Return `positions` times the factor, which for YaRN is that of the original positions (arXiv 2309.00071)."""
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    if kind not in _STRETCHED or not isinstance(factor, int | float):
        return positions
    original = scaling.get("original_max_position_embeddings") if kind == "yarn" else None
    return int((original or positions) * factor)
