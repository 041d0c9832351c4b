"""TRL's SFTTrainer, run in its own environment: python with_trl.py JOB.json"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import clock


def main(job: dict[str, Any]) -> None:
    from datasets import Dataset, disable_caching
    from hf_callback import Clock
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    disable_caching()
    settings = {
        "output_dir": job["out"],
        "num_train_epochs": 1,
        "per_device_train_batch_size": job["batch"],
        "learning_rate": job["lr"],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 1,
        "weight_decay": 0.0,
        "seed": job["seed"],
        "max_length": None,
        "use_cpu": True,
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
    }
    adapter = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(job["model"], dtype="float32", **job.get("load", {})),
        args=SFTConfig(**{**settings, **job["flags"]}),
        train_dataset=Dataset.from_list([chat(line) for line in Path(job["rows"]).read_text().splitlines()]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **adapter) if job["kind"] == "lora" else None,
        callbacks=[Clock()],
    )
    trainer.train()
    if job.get("save", True):
        trainer.model.save_pretrained(job["out"])


def chat(line: str) -> dict[str, Any]:
    """One row as TRL wants prompts with completions."""
    row = json.loads(line)
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
