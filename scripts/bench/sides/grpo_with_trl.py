"""TRL's GRPOTrainer, run in its own environment: python grpo_with_trl.py JOB.json"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import clock
from reward_of_words import share_of_words


def main(job: dict[str, Any]) -> None:
    from hf_callback import Start
    from trl import GRPOConfig, GRPOTrainer
    from trl_run import logged, parts, settings, turn

    def reward(completions: list[Any], reference: list[str], **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        return [share_of_words("", text, right, None) for text, right in zip(texts, reference, strict=True)]

    def prompt(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": turn("user", row["prompt"]), "reference": row["completion"]}

    configuration = settings(
        job,
        max_steps=job["steps"],
        per_device_train_batch_size=job["prompts"] * job["samples"],
        num_generations=job["samples"],
        max_completion_length=job["max_new_tokens"],
        temperature=1.0,
        beta=0.0,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
    )
    own = {"args": GRPOConfig(**configuration), "reward_funcs": reward, "callbacks": [Start()]}
    trainer = GRPOTrainer(**own, **parts(job, prompt))
    trainer.train()
    Path(job["out"], "lengths.json").write_text(json.dumps(logged(trainer, "completions/mean_length")))


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
