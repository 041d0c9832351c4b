"""TRL's DPOTrainer, run in its own environment: python dpo_with_trl.py JOB.json"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import clock


def main(job: dict[str, Any]) -> None:
    from datasets import Dataset, disable_caching
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class Clock(TrainerCallback):
        """Starts the clock before the first batch is made."""

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

    class InOrder(DPOTrainer):
        """Takes the rows in the order of the file, which is the one that Kamerton draws."""

        def _precompute_ref_logps(self, *values: Any, **named: Any) -> Any:
            clock.begin()  # the reference is part of the work
            return super()._precompute_ref_logps(*values, **named)

        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    disable_caching()
    settings = {
        "output_dir": job["out"],
        "num_train_epochs": 1,
        "max_steps": job["steps"],
        "per_device_train_batch_size": job["pairs"],
        "gradient_accumulation_steps": job.get("accumulate", 1),
        "learning_rate": job["lr"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "beta": 0.1,
        "seed": job["seed"],
        "max_length": None,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
    }
    adapter = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
    rows = [json.loads(line) for line in Path(job["rows"]).read_text().splitlines()]
    trainer = InOrder(
        AutoModelForCausalLM.from_pretrained(job["model"], dtype="float32"),
        args=DPOConfig(**{**settings, "bf16": False, **job["flags"]}),
        train_dataset=Dataset.from_list([turns(row) for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **adapter) if job["kind"] == "lora" else None,
        callbacks=[Clock()],
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    Path(job["out"], "losses.json").write_text(json.dumps(losses))
    if job.get("save", True):
        trainer.model.save_pretrained(Path(job["out"]) / "trained")


def turns(row: dict[str, Any]) -> dict[str, Any]:
    """One pair as TRL takes conversations."""
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    }


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
