"""How good what a side trained is: python quality.py HELD_OUT.json BASE_MODEL [TRAINED_FOLDER]

Prints the mean negative log-likelihood, nats per target token, of held-out rows: the same code for every side. Without
a trained folder, of the model as it was before.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch


def load(base: str, trained: Path | None) -> Any:
    """The trained model: an adapter, a model in Hugging Face format, or LitGPT's weights converted back."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if trained is None:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if (trained / "adapter_config.json").exists():
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), trained)
    if (trained / "model.pth").exists():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, tie_word_embeddings=False)
        model.load_state_dict(torch.load(trained / "model.pth", mmap=True, weights_only=True))
        return model
    return AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)


@torch.no_grad()
def loss(model: Any, rows: list[dict[str, Any]]) -> float:
    """Sum of the negative log-likelihoods of all target tokens over their number."""
    total, count = 0.0, 0
    for row in rows:
        ids = torch.tensor(row["ids"])[None]
        targets = ids[0, row["prompt"] :]
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(targets) + 1).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        count += len(targets)
    return total / count


if __name__ == "__main__":
    held_out, base, *trained = sys.argv[1:]
    model = load(base, Path(trained[0]) if trained else None).eval()
    print(f"RESULT {loss(model, json.loads(Path(held_out).read_text()))}")
