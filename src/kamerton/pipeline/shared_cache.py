"""What the runs of one process share: encoded data, the tokenizer, base weights and the batch layout.

Used between the points of a sweep and the folds of a cross-validation. Results are bit-identical to those without it:
a key includes everything its value depends on, and a run gets its own copy of whatever it changes.
"""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from kamerton.config.schema import Config
from kamerton.data.inputs import Inputs, load_inputs
from kamerton.data.read.sources import find_files, local_data
from kamerton.model.load import TINY, load_tokenizer
from kamerton.run.model import load_base

T = TypeVar("T")


class SharedCache:
    """A least-recently-used cache by kind and key: one base model, and the inputs of a few splits."""

    def __init__(self) -> None:
        self._kept: dict[str, OrderedDict[str, Any]] = {}

    def keep(self, kind: str, key: Any, make: Callable[[], T], *, most: int = 8) -> T:
        """Return the value of `kind` for a key of plain values, made if missing; at most `most` values are kept."""
        kept = self._kept.setdefault(kind, OrderedDict())
        name = json.dumps(key, sort_keys=True, default=str)
        if name not in kept:
            while len(kept) >= most:  # free its memory before making the new value
                kept.popitem(last=False)
            kept[name] = make()
        kept.move_to_end(name)
        value: T = kept[name]
        return value

    def inputs(self, config: Config) -> Inputs:
        """Return the result of `load_inputs`; the dictionary of encoded splits is a copy."""
        model, data = config.model, config.data
        source = _source(config)

        def tokenizer() -> Any:
            return load_tokenizer(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)

        def load() -> Inputs:
            return load_inputs(data, config.split, model, self.keep("tokenizer", source, tokenizer, most=1))

        files = [_stamp(Path(file.path)) for file in find_files(local_data(data))[0]]
        inputs = self.keep("inputs", [asdict(data), asdict(config.split), source, files], load)
        return replace(inputs, encoded=dict(inputs.encoded))

    def base(self, config: Config) -> Any:
        """Return a new base model; it shares its weights with others if the run does not change them."""
        key = base_key(config)
        if key is None:
            return load_base(config)
        return sharing_weights(self.keep("base", key, lambda: load_base(config), most=1))


def base_key(config: Config) -> list[Any] | None:
    """Return everything the base weights depend on; None if the run changes them, so that they cannot be shared."""
    adapter = config.adapter
    is_plain_lora = adapter.kind == "lora" and adapter.init == "default" and not adapter.modules_to_save
    in_one_process = config.trainer.get("strategy", "auto") == "auto"
    if not (is_plain_lora and in_one_process) or config.model.export == "merged":
        return None
    return [
        *_source(config),
        config.model.adapter,
        config.model.dtype,
        config.seed if config.model.name == TINY else None,
    ]


def sharing_weights(model: nn.Module) -> nn.Module:
    """Return a copy of a model that shares its weights (tied ones stay tied); none of them may be trained.

    Everything else is copied: modules (and so their classes and hooks), buffers, configuration, `requires_grad`, and
    the device.
    """
    shared: dict[int, Any] = {}
    for weight in model.parameters():
        shared[id(weight)] = nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
        shared[id(weight)].__dict__.update(weight.__dict__)
    return copy.deepcopy(model, shared)


def _source(config: Config) -> list[Any]:
    """Return the source of model and tokenizer, including the files of a local folder."""
    model, folder = config.model, Path(config.model.name).expanduser()
    files = [_stamp(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return [model.name, model.revision, model.trust_remote_code, files]


def _stamp(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino]
