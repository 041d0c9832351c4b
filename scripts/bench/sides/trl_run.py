"""What the sides that run a trainer of TRL have in common; needs TRL's environment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_caching
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

ADAPTER = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}


def settings(job: dict[str, Any], **own: Any) -> dict[str, Any]:
    """The arguments of a trainer's configuration; a side's `own` replace common ones, the job's flags replace both."""
    return {
        "output_dir": job["out"],
        "learning_rate": job["lr"],
        "weight_decay": 0.0,
        "seed": job["seed"],
        "use_cpu": True,
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        **own,
        **{name: value for name, value in job["flags"].items() if name != "dtype"},
    }


def parts(job: dict[str, Any], row: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A trainer's model, tokenizer, adapter and rows; `row` makes TRL's form of a line of the job's file."""
    disable_caching()
    lines = Path(job["rows"]).read_text().splitlines()
    return {
        "model": AutoModelForCausalLM.from_pretrained(
            job["model"], dtype=job["flags"].get("dtype", "float32"), **job.get("load", {})
        ),
        "processing_class": AutoTokenizer.from_pretrained(job["model"]),
        "peft_config": LoraConfig(task_type="CAUSAL_LM", **ADAPTER) if job["kind"] == "lora" else None,
        "train_dataset": Dataset.from_list([row(json.loads(line)) for line in lines]),
    }


def turn(role: str, text: str) -> list[dict[str, str]]:
    """A conversation of one turn."""
    return [{"role": role, "content": text}]


def logged(trainer: Any, name: str) -> list[float]:
    """What a trainer logged under a name in each step."""
    return [entry[name] for entry in trainer.state.log_history if "loss" in entry]
