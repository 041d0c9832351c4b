"""Encoded examples for a person to read: what the model is given, and in colour what it is trained on."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from kamerton.data.encode import Encoded
from kamerton.output import printable

if TYPE_CHECKING:
    from rich.text import Text

TARGET, READ = "bold green", "dim"
CONTROL = " underline"  # a control token, as against a text that holds its string


def show(encoded: Encoded, tokenizer: Any, count: int = 3) -> list[Text]:
    """The first `count` examples as the model sees them: targets bold and green, control tokens underlined."""
    return [_shown(encoded, tokenizer, i) for i in range(len(encoded))[: max(count, 0)]]


def _shown(encoded: Encoded, tokenizer: Any, i: int) -> Text:
    from rich.text import Text

    text = Text(f"{encoded.ids[i].as_py()}  {encoded.lengths[i]} tokens, {encoded.target_counts[i]} trained on\n")
    special = set(tokenizer.all_special_ids)
    marked = zip(encoded.tokens(i).tolist(), encoded.targets(i).tolist(), strict=True)
    for (target, control), run in groupby(marked, key=lambda pair: (pair[1], pair[0] in special)):
        piece = tokenizer.decode([token for token, _ in run], skip_special_tokens=False)
        text.append(printable(piece), style=(TARGET if target else READ) + (CONTROL if control else ""))
    return text
