"""TRL's DPOTrainer, run in its own environment: python dpo_with_trl.py JOB.json"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import clock


def main(job: dict[str, Any]) -> None:
    from hf_callback import Start
    from torch.utils.data import SequentialSampler
    from trl import DPOConfig, DPOTrainer
    from trl_run import logged, parts, settings, turn

    class InOrder(DPOTrainer):
        """Takes the rows in the order of the file, which is the one that Kamerton draws."""

        def _precompute_ref_logps(self, *values: Any, **named: Any) -> Any:
            clock.begin()  # the reference is part of the work
            return super()._precompute_ref_logps(*values, **named)

        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    def pair(row: dict[str, Any]) -> dict[str, Any]:
        sides = {side: turn("assistant", row[side]) for side in ("chosen", "rejected")}
        return {"prompt": turn("user", row["prompt"]), **sides}

    configuration = settings(
        job,
        num_train_epochs=1,
        max_steps=job["steps"],
        per_device_train_batch_size=job["pairs"],
        gradient_accumulation_steps=job.get("accumulate", 1),
        lr_scheduler_type="constant",
        beta=0.1,
        max_length=None,
    )
    trainer = InOrder(args=DPOConfig(**configuration), callbacks=[Start()], **parts(job, pair))
    trainer.train()
    Path(job["out"], "losses.json").write_text(json.dumps(logged(trainer, "loss")))
    if job.get("save", True):
        trainer.model.save_pretrained(Path(job["out"]) / "trained")


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
