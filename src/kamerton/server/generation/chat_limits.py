"""Limits on prompts that both the server and the worker process check."""

from __future__ import annotations

CONTEXT = 4096  # tokens of prompt and answer together, even if a model has more positions
CHARACTERS = 16  # of a prompt per token of the context; longer prompts are refused before tokenization
