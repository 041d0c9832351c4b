"""Estimate the cost of a hosted fine-tune before anything is sent: tokens, prices, and unknowns.

Prices are US dollars for a million tokens: those of OpenAI's published list as it stood in June 2025
(https://openai.com/api/pricing, "Fine-tuning"), for its own address only. `model.price` overrides them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.data.example import DataExample, Message
from kamerton.endpoint import OPENAI
from kamerton.errors import Fault
from kamerton.hosted.preferences import sides_of

PRICED = "June 2025"
ROUGH = "UTF-8 bytes / 4"
PATIENCE_S = 10.0  # for an encoding to be downloaded
BYTES_PER_TOKEN = 4
ROUGH_FACTOR = 2  # a rough count is doubled before it is compared with model.max_cost
MESSAGE_TOKENS, REPLY_TOKENS = 3, 3  # what the chat format adds, by OpenAI's guide to counting tokens

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, of the tuned model; None where unknown. `listed`: some are of the list here."""

    training: float | None = None
    input: float | None = None
    output: float | None = None
    listed: bool = False


@dataclass(frozen=True, slots=True)
class _Listed:
    price: Price
    longest: int  # tokens of a training example; longer ones would be truncated


_LIST = {
    "gpt-3.5-turbo": _Listed(Price(8.0, 3.0, 6.0), 16_385),
    "gpt-4o": _Listed(Price(25.0, 3.75, 15.0), 65_536),
    "gpt-4o-mini": _Listed(Price(3.0, 0.3, 1.2), 65_536),
    "gpt-4.1": _Listed(Price(25.0, 3.0, 12.0), 65_536),
    "gpt-4.1-mini": _Listed(Price(5.0, 0.8, 3.2), 65_536),
    "gpt-4.1-nano": _Listed(Price(1.5, 0.2, 0.8), 65_536),
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of an epoch of training, and of all evaluation (`output_tokens` at most); dollars are None if unknown.

    `timed`: the training is paid by its time, which is unknown.
    """

    counted_by: str
    training_tokens: int
    epochs: int
    input_tokens: int
    output_tokens: int
    price: Price
    timed: bool = False

    @property
    def training(self) -> float | None:
        """Dollars of the training."""
        return None if self.timed else _dollars((self.training_tokens * self.epochs, self.price.training))

    @property
    def evaluation(self) -> float | None:
        """Dollars of the evaluation, at most."""
        return _dollars((self.input_tokens, self.price.input), (self.output_tokens, self.price.output))

    @property
    def total(self) -> float | None:
        """Both."""
        training, evaluation = self.training, self.evaluation
        return None if training is None or evaluation is None else training + evaluation


def _dollars(*parts: tuple[int, float | None]) -> float | None:
    """Return tokens times their price; None if a price is missing for any tokens."""
    if any(tokens and price is None for tokens, price in parts):
        return None
    return sum(tokens * (price or 0.0) for tokens, price in parts) / 1e6


def find_price(url: str, model: str, configured: Price) -> Price:
    """Return the given price, else that of the list; unknown at any other address than OpenAI's."""
    entry = _listed(model) if url == OPENAI else None
    listed = entry.price if entry else Price()

    def choose(name: str) -> float | None:
        price: float | None = getattr(configured, name)
        fallback: float | None = getattr(listed, name)
        return fallback if price is None else price

    is_listed = entry is not None and None in (configured.training, configured.input, configured.output)
    return Price(choose("training"), choose("input"), choose("output"), is_listed)


def longest_example(model: str) -> int | None:
    """Return how many tokens a training example may have; None if unknown."""
    entry = _listed(model)
    return entry.longest if entry else None


def _listed(model: str) -> _Listed | None:
    """Look up a model, its dated snapshot (gpt-4o-mini-2024-07-18, gpt-3.5-turbo-0125) or a tuned one (ft:…)."""
    base = model.split(":")[1] if model.startswith("ft:") and model.count(":") > 1 else model
    return _LIST.get(re.sub(r"-\d{4}(-\d\d-\d\d)?$", "", base))


def find_encoding(model: str) -> Encode | None:
    """Return the model's own encoding, if tiktoken has it or can download it within seconds."""
    try:
        import tiktoken

        name = tiktoken.encoding_name_for_model(model)
    except (ImportError, KeyError):
        return None
    encodings: list[Any] = []

    def load() -> None:
        try:
            encodings.append(tiktoken.get_encoding(name))
        except Exception:  # whatever a download fails with
            return

    thread = threading.Thread(target=load, daemon=True)  # the download has no time limit
    thread.start()
    thread.join(PATIENCE_S)
    return encodings[0].encode_ordinary if encodings else None


def count_tokens(turns: Iterable[Message], encode: Encode | None) -> int:
    """Return the tokens of a chat; without an encoding a quarter of its bytes."""
    counts = [MESSAGE_TOKENS + _length(turn.role, encode) + _length(turn.content, encode) for turn in turns]
    return sum(counts) + REPLY_TOKENS


def _length(text: str, encode: Encode | None) -> int:
    return len(encode(text)) if encode else -(-len(text.encode()) // BYTES_PER_TOKEN)


def estimate(
    train: Iterable[DataExample],
    test: Iterable[DataExample],
    encode: Encode | None,
    price: Price,
    *,
    epochs: int,
    models: int,
    answer: int,
    timed: bool = False,
) -> Estimate:
    """Estimate tokens and cost: `models` models answer every test prompt with at most `answer` tokens.

    A pair of completions is trained on as two chats: its prompt counts with each of them. `timed`: see `Estimate`.
    """
    prompts = [count_tokens(example.messages[:-1], encode) for example in test]
    return Estimate(
        ROUGH if encode is None else "tiktoken",
        sum(count_tokens(side.messages, encode) for example in train for side in sides_of(example)),
        epochs,
        sum(prompts) * models,
        len(prompts) * answer * models,
        price,
        timed,
    )


def too_long(train: Iterable[DataExample], model: str, encode: Encode | None) -> Fault | None:
    """Return a fault for examples that the endpoint would truncate silently; a rough count only warns."""
    most = longest_example(model)
    if most is None:
        return None
    long = [
        example.id for example in train if any(count_tokens(side.messages, encode) > most for side in sides_of(example))
    ]
    if not long:
        return None
    about = "about " if encode is None else ""
    message = f"{len(long)} training examples have {about}more than the {most:,} tokens that {model} learns from"
    message = f"{message} (first: example {long[0]})"
    fix = "shorten or drop them: the endpoint would cut off their ends, where the answers are"
    return Fault("hosted.too-long", message, fix, column="data", severity="error" if encode else "warning")


def over_limit(cost: Estimate, limit: float | None) -> Fault | None:
    """Return why nothing is sent: it may cost more than `limit` dollars, or the price is unknown."""
    if limit is None:
        return None
    if cost.timed:
        message = "model.max_cost is set, but a reinforcement job is paid by the hours of its training"
        return Fault("hosted.price", message, "leave model.max_cost out", column="model.max_cost")
    if cost.total is None:
        message = "model.max_cost is set, but the model's price is unknown"
        fix = "give model.price.training, model.price.input and model.price.output in dollars for a million tokens"
        return Fault("hosted.price", message, fix, column="model.price")
    rough = cost.counted_by == ROUGH
    most = cost.total * (ROUGH_FACTOR if rough else 1)
    if most <= limit:
        return None
    why = f" (tokens counted as {ROUGH}, doubled to be safe)" if rough else ""
    message = f"this may cost ${most:,.2f}{why}, more than model.max_cost={limit:g}"
    fix = "fewer examples or epochs, a lower score.max_new_tokens, base=false, or a higher model.max_cost"
    return Fault("hosted.cost", message, fix, column="model.max_cost")


def cost_words(cost: Estimate) -> list[str]:
    """Return the lines about cost that are printed before anything is sent."""
    tokens = cost.training_tokens * cost.epochs
    epochs = f"{cost.epochs} epoch{'s' if cost.epochs > 1 else ''}"
    source = f"; prices of {PRICED}: check today's" if cost.price.listed else "; by model.price"
    if cost.timed:
        source = "; reinforcement is paid by the hours of its training"
    elif cost.total is None:
        source = "; give model.price.{training,input,output} for an estimate"
    return [
        f"tokens {tokens:,} of training ({epochs}), {cost.input_tokens:,} asked and at most"
        f" {cost.output_tokens:,} answered in evaluation; counted by {cost.counted_by}",
        f"cost   training {shown(cost.training)}, evaluation at most {shown(cost.evaluation)}{source}",
    ]


def shown(dollars: float | None) -> str:
    """Return an amount as text; small ones are not rounded to 0."""
    if dollars is None:
        return "unknown"
    return f"${dollars:,.2f}" if dollars >= 0.1 or dollars == 0 else f"${dollars:.4f}"
