"""LLaMA-Factory's supervised fine-tuning, run in its own environment: python with_llamafactory.py JOB.json"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import clock

# Its template smollm2 ends the system prompt with a full stop that the model's own template does not have.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def main(job: dict[str, Any]) -> None:
    from hf_callback import Clock
    from llamafactory.train.tuner import run_exp

    template = {"template": "smollm2", "default_system": SYSTEM} if job["system"] else {"template": "chatml"}
    adapter = {"finetuning_type": "lora", "lora_rank": 16, "lora_alpha": 32, "lora_target": "all"}
    arguments = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": job["model"],
        "dataset": "rows",
        "dataset_dir": str(describe_rows(Path(job["rows"]), Path(job["out"]))),
        **template,
        "cutoff_len": 4096,
        "overwrite_cache": True,
        "output_dir": job["out"],
        "num_train_epochs": 1,
        "per_device_train_batch_size": job["batch"],
        "gradient_accumulation_steps": 1,
        "learning_rate": job["lr"],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 1,
        "weight_decay": 0.0,
        "optim": "adamw_torch_fused",
        "seed": job["seed"],
        "use_cpu": True,
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        **(adapter if job["kind"] == "lora" else {"finetuning_type": "full"}),
        **job["flags"],
    }
    run_exp(arguments, callbacks=[Clock()])


def describe_rows(rows: Path, folder: Path) -> Path:
    """A data folder in LLaMA-Factory's manner that names the rows."""
    target = folder / "data"
    target.mkdir(parents=True, exist_ok=True)
    (target / "rows.jsonl").write_text(rows.read_text())
    columns = {"prompt": "prompt", "response": "completion"}
    (target / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "columns": columns}}))
    return target


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
