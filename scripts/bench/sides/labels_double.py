"""Label scoring by plain transformers in float64, one row and label at a time: python labels_double.py JOB.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import clock
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.inference_mode()
def main(job: dict[str, Any]) -> dict[str, Any]:
    """Log-probabilities of some labels of some rows, the newline before them left out."""
    torch.set_num_threads(job["threads"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    rows = json.loads(Path(job["rows"]).read_text())
    values = []
    for index, label in job["pairs"]:
        turns = [{"role": "user", "content": rows[index]["prompt"]}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after = tokenizer(job["labels"][label] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        logits = model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(after))
        each = [float(logits[place - 1, (before + after)[place]]) for place in places]
        values.append({"newline": each[0], "label": sum(each[1:])})
    Path(job["out"]).write_text(json.dumps(values))
    return {"rows": len(values)}


if __name__ == "__main__":
    print("\nRESULT " + json.dumps(main(clock.read_job())), flush=True)
