"""The loop one would write by hand with transformers and peft: python plain.py JOB.json

Right-padded rows in random order, an attention mask, labels of -100, the model's own loss, backward, clip, step.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import clock
import torch


def main(job: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, get_scheduler

    random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    rows = json.loads(Path(job["tokens"]).read_text())
    clock.count([len(row["ids"]) for row in rows], [len(row["ids"]) - row["prompt"] for row in rows])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).train()
    if job["kind"] == "lora":
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job["lr"], weight_decay=0.0, fused=True)
    steps = -(-len(rows) // job["batch"])
    schedule = get_scheduler("cosine", optimizer, 1, steps)
    random.shuffle(rows)
    clock.begin()
    for step in range(steps):
        batch = padded(rows[step * job["batch"] : (step + 1) * job["batch"]], model.config.pad_token_id)
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.save_pretrained(job["out"])


def padded(rows: list[dict[str, Any]], pad: int) -> dict[str, torch.Tensor]:
    """Token ids, attention mask and labels, padded on the right."""
    size = (len(rows), max(len(row["ids"]) for row in rows))
    ids, mask, labels = torch.full(size, pad), torch.zeros(size, dtype=torch.long), torch.full(size, -100)
    for line, row in enumerate(rows):
        tokens = torch.tensor(row["ids"])
        ids[line, : len(tokens)], mask[line, : len(tokens)] = tokens, 1
        labels[line, row["prompt"] : len(tokens)] = tokens[row["prompt"] :]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
