"""The limits on chats that the server and the process that generates both check."""

from __future__ import annotations

CONTEXT = 4096  # tokens of a prompt and its answer together, however many positions a model has
CHARACTERS = 16  # of a prompt for each token of the context: a longer one is refused before it is tokenised
