"""Held-out preference accuracy of a trained model by plain transformers: python dpo_accuracy.py JOB.json

A pair is right if the chosen completion gained more log-probability over the base model than the rejected one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(job: dict[str, Any]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    rows = [json.loads(line) for line in Path(job["rows"]).read_text().splitlines()]
    kept = Path(job["rows"]).with_suffix(".before.json")  # those of the base model are needed once
    if not kept.exists():
        sides = ("chosen", "rejected")
        kept.write_text(json.dumps([[logprob(base, tokenizer, row["prompt"], row[s]) for s in sides] for row in rows]))
    before = json.loads(kept.read_text())
    trained = Path(job["trained"])
    if (trained / "adapter_config.json").exists():
        tuned: Any = PeftModel.from_pretrained(base, trained).eval()
    else:
        tuned = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32).eval()
    right = 0
    for row, (chosen, rejected) in zip(rows, before, strict=True):
        gains = (
            logprob(tuned, tokenizer, row["prompt"], row["chosen"]) - chosen,
            logprob(tuned, tokenizer, row["prompt"], row["rejected"]) - rejected,
        )
        right += gains[0] > gains[1]
    return right / len(rows)


@torch.inference_mode()
def logprob(model: Any, tokenizer: Any, prompt: str, completion: str) -> float:
    """Log-probability of a completion and its end, in nats."""
    turns = [{"role": "user", "content": prompt}]
    before = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": completion}], tokenize=False)
    first = tokenizer(before, add_special_tokens=False, return_tensors="pt").input_ids
    rest = tokenizer(whole[len(before) :], add_special_tokens=False, return_tensors="pt").input_ids
    ids = torch.cat([first, rest], dim=1)
    logprobs = model(ids).logits[0, first.shape[1] - 1 : -1].log_softmax(-1)
    return float(logprobs.gather(1, rest[0][:, None]).sum())


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
