"""Keys of other tools, and the keys of Kamerton that they correspond to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kamerton.config.hosted import hosted_name
from kamerton.shell import setting
from kamerton.words import did_you_mean

# The arguments of transformers' Trainer, TRL, LLaMA-Factory and OpenAI's API.
_KEYS = {
    "adapter.alpha": ("lora_alpha", "alpha"),
    "adapter.dropout": ("lora_dropout", "dropout"),
    "adapter.r": ("lora_r", "lora_rank", "rank", "r"),
    "adapter.targets": ("target_modules", "lora_target"),
    "batch.size": ("batch_size", "train_batch_size", "per_device_train_batch_size", "batchsize", "bs"),
    "callbacks.early_stopping.patience": ("patience", "early_stopping_patience"),
    "clip_norm": ("max_grad_norm", "gradient_clip_val", "grad_clip", "gradient_clipping"),
    "data.max_length": ("max_length", "max_seq_length", "max_seq_len", "cutoff_len", "block_size"),
    "data.path": ("dataset", "dataset_path", "data_path", "train_file", "training_file", "path", "file"),
    "eval.every": ("eval_steps", "evaluation_steps"),
    "eval.strategy": ("eval_strategy", "evaluation_strategy"),
    "model.gradient_checkpointing": ("gradient_checkpointing",),
    "model.name": ("model_name", "model_name_or_path", "base_model", "pretrained_model_name_or_path", "model_id"),
    "optimizer.lr": ("lr", "learning_rate", "learningrate"),
    "optimizer.weight_decay": ("weight_decay", "wd"),
    "paths.outputs": ("output_dir", "output", "outputs", "save_dir"),
    "save.every": ("save_steps", "saving_steps"),
    "save.strategy": ("save_strategy", "saving_strategy"),
    "scheduler": ("lr_scheduler", "lr_scheduler_type"),
    "scheduler.warmup_ratio": ("warmup_ratio",),
    "scheduler.warmup_steps": ("warmup_steps", "warmup"),
    "split.ratios": ("ratios", "split_ratios"),
    "trainer.devices": ("devices", "gpus", "num_gpus", "n_gpus"),
    "trainer.max_epochs": ("epochs", "epoch", "n_epochs", "num_epochs", "num_train_epochs", "max_epochs"),
    "trainer.max_steps": ("max_steps", "steps", "num_steps"),
    "trainer.precision": ("precision",),
}
_MEANT = {word: key for key, words in _KEYS.items() for word in words}


def nearest_key(word: str, valid: Iterable[str], value: Any = None, *, top: bool) -> str:
    """Return a fix for the unknown key `word` of a section with `valid` keys; `top` for the whole configuration.

    A key of another tool gets the corresponding key, any other the nearest valid one.
    """
    options = list(valid)
    meant = _MEANT.get(word.lower())
    section, _, last = (meant or "").rpartition(".")
    if meant and top and (section.partition(".")[0] or last) in options:
        return f"write {setting(meant, value)}" if isinstance(value, str | int | float) else f"did you mean {meant!r}?"
    if meant and not top and last in options:
        return f"did you mean {last!r}?"
    return did_you_mean(word, options)


def option_meant(group: str, word: str, options: Iterable[str]) -> str:
    """Return a fix for `group=word` without such an option: a model's name or folder, a data file, or a typo."""
    if group == "model" and (hosted := hosted_name(word)) is not None:
        return f"write model=openai {setting('model.name', hosted)}"
    if group == "model" and ("/" in word or Path(word).is_dir()):
        return f"write model=hub {setting('model.name', word)}"
    if group == "data" and ("/" in word or Path(word).suffix):
        return f"write {setting('data.path', word)}"
    return did_you_mean(word, options)
