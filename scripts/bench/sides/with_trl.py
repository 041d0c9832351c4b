"""TRL's SFTTrainer, run in its own environment: python with_trl.py JOB.json"""

from __future__ import annotations

from typing import Any

import clock


def main(job: dict[str, Any]) -> None:
    from hf_callback import Clock
    from trl import SFTConfig, SFTTrainer
    from trl_run import parts, settings, turn

    def chat(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": turn("user", row["prompt"]), "completion": turn("assistant", row["completion"])}

    configuration = settings(
        job,
        num_train_epochs=1,
        per_device_train_batch_size=job["batch"],
        lr_scheduler_type="cosine",
        warmup_steps=1,
        max_length=None,
    )
    trainer = SFTTrainer(args=SFTConfig(**configuration), callbacks=[Clock()], **parts(job, chat))
    trainer.train()
    if job.get("save", True):
        trainer.model.save_pretrained(job["out"])


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
