"""The models that answer: loaded when they are asked for, the last used ones kept, LoRA runs over one base.

A run answers as it was scored: its configuration, its best checkpoint, its tokenizer and chat template, through the
code that evaluates runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import nn

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.config.schema import Config
from kamerton.data.encode.tokenize import Prompt, StretchTokenizer
from kamerton.data.example import Message
from kamerton.model.ends import end_tokens
from kamerton.model.limits import positions_of
from kamerton.model.load import load_tokenizer
from kamerton.model.parts import base_of
from kamerton.pipeline.shared_cache import base_key, sharing_weights
from kamerton.run.model import load_base
from kamerton.score.target import load_named, load_run, run_config

_LAID_OUT = {"cut": "padded", "max_tokens": 256}  # nothing is packed, so nothing has to be tried or measured
_ANSWER = "answer"  # stands for what is not known yet


@dataclass(frozen=True, slots=True)
class Served:
    """A model that answers: how texts become its tokens, which of them end a turn, how many it reads and writes.

    `stretches` lays out texts as training did, with the run's `data.control_tokens`.

    `fingerprint` names the weights and the versions of what computes with them. `base` keeps shared weights alive.
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

    def chat_tokens(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """The tokens of (role, content) turns as training lays them out before a completion.

        Without a chat template one turn of the user is a plain text. Raises `RenderError` where the template refuses.
        """
        if self.tokenizer.chat_template is None and [role for role, _ in turns] == ["user"]:
            return self._before(turns[0][1])
        return self._before(tuple(Message(role, content) for role, content in turns))

    def _before(self, prompt: Prompt) -> list[int]:
        ((before, _),) = self.stretches.completions(prompt, [_ANSWER])
        return before

    def text_tokens(self, text: str) -> list[int]:
        """The tokens of a text that is to be continued, without any template."""
        return self.stretches.text(text)

    def decode(self, tokens: list[int]) -> str:
        """The text of an answer, as a score table holds it."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


class Models:
    """The last used models, at most `most` but for those in use; none reads and writes more than `context` tokens."""

    def __init__(self, most: int, context: int) -> None:
        self._most = most
        self._context = context
        self._kept: OrderedDict[str, Served] = OrderedDict()
        self._bases: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()

    def get(self, source: str, used: Collection[str]) -> Served:
        """The model of a run directory, or of an option of the group `model`; `used` are the keys of those in use.

        Raises `UserError` or `RunFailed` where it cannot be loaded.
        """
        key = _key(source)
        if key not in self._kept:
            self._make_room(used)
            self._kept[key] = self._load(source, key)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _make_room(self, used: Collection[str]) -> None:
        for key in [key for key in self._kept if key not in used]:
            if len(self._kept) >= self._most:
                del self._kept[key]

    def _load(self, source: str, key: str) -> Served:
        path = Path(source)
        config = _to_answer(run_config(path) if path.is_absolute() else _named(source))
        base, share = self._base(config)
        loaded = load_run(config, path, None, _LAID_OUT, "auto", share) if path.is_absolute() else None
        loaded = loaded or load_named(config, "auto", share)
        options = config.model
        tokenizer = load_tokenizer(options.name, revision=options.revision, trust_remote_code=options.trust_remote_code)
        stretches = StretchTokenizer(tokenizer, config.data.control_tokens)
        ends = end_tokens(loaded.model, tokenizer, _ending(stretches))
        context = min(positions_of(base_of(loaded.model).config) or self._context, self._context)
        print_of = _fingerprint(key)
        return Served(key, loaded.model, tokenizer, stretches, ends, context, loaded.device, print_of, base)

    def _base(self, config: Config) -> tuple[nn.Module | None, Callable[[Config], Any]]:
        """The base weights that models share, and what makes a model over them; None where it needs its own."""
        key = base_key(config)
        if key is None:
            return None, load_base
        name = json.dumps(key, default=str)
        base = self._bases.get(name)
        if base is None:
            base = self._bases[name] = load_base(config)
        return base, lambda _: sharing_weights(base)


def _key(source: str) -> str:
    """A run directory may be made anew under its name."""
    record = Path(source) / "run.json"
    return f"{source}@{record.stat().st_mtime_ns}" if record.is_file() else source


def _named(option: str) -> Config:
    return to_config(compose_values([f"model={option}", "data=jsonl", "batch.max_tokens=256", "batch.cut=padded"]))


def _to_answer(config: Config) -> Config:
    """Layers are not compiled: every length of what is cached would be compiled anew."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, compile=False))


def _ending(stretches: StretchTokenizer) -> list[int]:
    """The tokens of a completion with what the template writes after it."""
    ((_, after),) = stretches.completions("question", [_ANSWER])
    return after


def _fingerprint(key: str) -> str:
    parts = [key, *(version(package) for package in ("kamerton", "torch", "transformers"))]
    return f"fp_{hashlib.blake2b(repr(parts).encode(), digest_size=5).hexdigest()}"
