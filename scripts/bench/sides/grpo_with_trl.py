"""TRL's GRPOTrainer, run in its own environment: python grpo_with_trl.py JOB.json"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import clock
from reward_of_words import share_of_words


def main(job: dict[str, Any]) -> None:
    from datasets import Dataset, disable_caching
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):
        """Starts the clock before the first completion is generated."""

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

    def reward(completions: list[Any], reference: list[str], **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        return [share_of_words("", text, right, None) for text, right in zip(texts, reference, strict=True)]

    disable_caching()
    settings = {
        "output_dir": job["out"],
        "max_steps": job["steps"],
        "per_device_train_batch_size": job["prompts"] * job["samples"],
        "num_generations": job["samples"],
        "max_completion_length": job["max_new_tokens"],
        "temperature": 1.0,
        "beta": 0.0,
        "learning_rate": job["lr"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "seed": job["seed"],
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
    }
    adapter = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
    rows = [json.loads(line) for line in Path(job["rows"]).read_text().splitlines()]
    data = [{"prompt": [{"role": "user", "content": row["prompt"]}], "reference": row["completion"]} for row in rows]
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(job["model"], dtype="float32"),
        reward_funcs=reward,
        args=GRPOConfig(**{**settings, **job["flags"]}),
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **adapter) if job["kind"] == "lora" else None,
        callbacks=[Clock()],
    )
    trainer.train()
    lengths = [entry["completions/mean_length"] for entry in trainer.state.log_history if "loss" in entry]
    Path(job["out"], "lengths.json").write_text(json.dumps(lengths))


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
