"""Cache of served models: loaded on request, the most recently used are kept, LoRA runs share one base model.

A run is loaded by the code that evaluates runs, so it answers as it was scored: with its configuration, best
checkpoint, tokenizer and chat template.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from llguidance import LLTokenizer
from torch import nn

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.config.schema import Config
from kamerton.data.encode.forms import is_rich
from kamerton.data.encode.render import RenderError
from kamerton.data.encode.single_example import answer_ending
from kamerton.data.encode.targets import Targets
from kamerton.data.encode.tokenize import Prompt, StretchTokenizer
from kamerton.data.example import DataExample, Message
from kamerton.data.read.conversations.reasoning import OPEN
from kamerton.model.ends import end_tokens
from kamerton.model.int8 import Quantize, quantize
from kamerton.model.layers import base_of
from kamerton.model.limits import positions_of
from kamerton.model.load import load_tokenizer
from kamerton.output import echo
from kamerton.pipeline.shared_cache import base_key, sharing_weights
from kamerton.run.model import load_base
from kamerton.run.record import Batch
from kamerton.score.calls import MARKED_TOKENS
from kamerton.score.load import load_named, load_run
from kamerton.score.target import run_config
from kamerton.server.generation.constraint import grammar_tokenizer

_PADDED = Batch(cut="padded", max_tokens=256)  # a batch layout that needs no capability check
_ANSWER = "answer"  # placeholder completion
_PROMPT_END = 8  # tokens, in which a template opens the reasoning


@dataclass(frozen=True)
class Served:
    """A loaded model with its tokenizer.

    `stretches` tokenizes texts as in training, with the run's `data.control_tokens`; `ends` are the tokens that end a
    turn; `context` is the limit of prompt and answer in tokens. `fingerprint` identifies the weights and the versions
    of the libraries. `base` keeps shared weights alive. `unmarked` are the special tokens that mark no part of an
    answer.
    """

    key: str
    model: Any
    tokenizer: Any
    stretches: StretchTokenizer
    ends: frozenset[int]
    context: int
    device: torch.device
    fingerprint: str
    base: nn.Module | None
    unmarked: frozenset[int] = frozenset()

    def chat_tokens(self, turns: Sequence[Message], tools: str = "") -> list[int]:
        """Return the prompt tokens of turns, as in training.

        Without a chat template a single user turn is plain text. Raises `RenderError` if the template refuses them.
        """
        if is_rich(DataExample(tuple(turns), "", tools=tools)):
            if self.tokenizer.chat_template is None:
                raise RenderError("it has none, which tools, calls and reasoning need")
            try:
                return self.stretches.prompt(turns, tools)
            except Exception as error:  # a template is a program: it may raise anything for what it does not take
                raise RenderError(str(error)) from error
        prompt: Prompt = tuple(turns)
        if self.tokenizer.chat_template is None and [turn.role for turn in turns] == ["user"]:
            prompt = turns[0].content
        ((tokens, _),) = self.stretches.completions(prompt, [_ANSWER])
        return tokens

    @cached_property
    def grammar_tokenizer(self) -> LLTokenizer:
        """The tokenizer for constraints of answers. Raises `ConstraintError` if it cannot be used."""
        return grammar_tokenizer(self.tokenizer, self.ends)

    def text_tokens(self, text: str) -> list[int]:
        """Return the tokens of a text to continue, without a template."""
        return self.stretches.text(text)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of an answer, as in a score table."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def decode_marked(self, tokens: Sequence[int]) -> str:
        """Return the text of an answer with the special tokens that mark calls and reasoning."""
        kept = [token for token in tokens if token not in self.unmarked]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False))

    def is_thinking(self, prompt: Sequence[int]) -> bool:
        """Return whether a prompt ends with the beginning of the reasoning."""
        end = self.tokenizer.decode(list(prompt[-_PROMPT_END:]), skip_special_tokens=False)
        return str(end).rstrip().endswith(OPEN)


class Models:
    """The most recently used models: at most `most`, unless more are in use, each limited to `context` tokens.

    `quantize` int8: they generate with weights of 8 bits (`model.int8`).
    """

    def __init__(self, most: int, context: int, quantize: Quantize | None = None) -> None:
        self._most = most
        self._quantize = quantize
        self._context = context
        self._kept: OrderedDict[str, Served] = OrderedDict()
        self._bases: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()

    def get(self, source: str, used: Collection[str]) -> Served:
        """Return the model of a run directory or an option of the group `model`; `used` are the keys of models in use.

        Raises `UserError` or `RunFailed` if it cannot be loaded.
        """
        record = Path(source) / "run.json"  # its time is part of the key: a run may be replaced under the same name
        key = f"{source}@{record.stat().st_mtime_ns}" if record.is_file() else source
        if key not in self._kept:
            for unused in [kept for kept in self._kept if kept not in used]:
                if len(self._kept) >= self._most:
                    del self._kept[unused]
            name = Path(source).name  # of a run its id, otherwise the option of the group `model`
            echo(f"loading the model {name}", err=True)
            self._kept[key] = self._load(source, key)
            echo(f"the model {name} is ready", err=True)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _load(self, source: str, key: str) -> Served:
        path = Path(source)
        if path.is_absolute():
            config = run_config(path)
        else:
            options = [f"model={source}", "data=jsonl", "batch.max_tokens=256", "batch.cut=padded"]
            config = to_config(compose_values(options))
        # Not compiled, because every length of the cache would be compiled separately.
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, compile=False))
        base, share = self._base(config)
        loaded = load_run(config, path, None, _PADDED, "auto", share) if path.is_absolute() else None
        loaded = loaded or load_named(config, "auto", share)
        if self._quantize is not None:
            quantize(loaded.model)
        model = config.model
        tokenizer = load_tokenizer(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
        targets = Targets(earlier_reasoning=config.data.earlier_reasoning)
        stretches = StretchTokenizer(tokenizer, config.data.control_tokens, targets)
        ends = end_tokens(loaded.model, tokenizer, answer_ending(tokenizer))
        context = min(positions_of(base_of(loaded.model).config) or self._context, self._context)
        parts = [key, *(version(package) for package in ("kamerton", "torch", "transformers"))]
        parts += [self._quantize] if self._quantize else []
        fingerprint = f"fp_{hashlib.blake2b(repr(parts).encode(), digest_size=5).hexdigest()}"
        model, device, unmarked = loaded.model, loaded.device, _unmarked(tokenizer)
        return Served(key, model, tokenizer, stretches, ends, context, device, fingerprint, base, unmarked)

    def _base(self, config: Config) -> tuple[nn.Module | None, Callable[[Config], Any]]:
        """Return the shared base weights (None if the model needs its own), and a function that builds its model."""
        key = base_key(config)
        if key is None:
            return None, load_base
        name = json.dumps(key, default=str)
        base = self._bases.get(name)
        if base is None:
            base = self._bases[name] = load_base(config)
        return base, lambda _: sharing_weights(base)


def _unmarked(tokenizer: Any) -> frozenset[int]:
    """Return the special tokens that mark neither calls nor reasoning."""
    special = {index for index, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    special |= set(tokenizer.all_special_ids)
    return frozenset(special - {index for name, index in tokenizer.get_vocab().items() if name in MARKED_TOKENS})
