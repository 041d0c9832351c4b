"""LitGPT's fine-tuning, run in its own environment: python with_litgpt.py JOB.json

It gets the token ids ready-made: its own templates cannot end a row as the model's does, and everyone is to train on
the same tokens. It has no gradient clipping and an untied head.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import clock
import torch
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule, get_sft_collate_fn
from litgpt.prompts import Default
from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
from litgpt.scripts.convert_lit_checkpoint import convert_lit_checkpoint

NAME = "SmolLM2-135M-Instruct"
LAYERS = ("query", "key", "value", "projection", "mlp")


class Rows(DataModule):
    """Token ids and labels of every row; validates on the first row, which LitGPT insists on before it trains."""

    def __init__(self, path: str, seed: int) -> None:
        super().__init__()
        self.rows, self.seed = json.loads(Path(path).read_text()), seed
        self.prompt_style = Default()
        self.test_dataset = SimpleNamespace(data=[{"instruction": "Hello"}])  # what it generates from at the end
        clock.count([len(row["ids"]) for row in self.rows], [len(row["ids"]) - row["prompt"] for row in self.rows])

    def connect(self, tokenizer: Any = None, batch_size: int = 1, max_seq_length: int | None = None) -> None:
        self.batch_size = batch_size

    def train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        return self._loader(self.rows, shuffle=True)

    def val_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        return self._loader(self.rows[:1], shuffle=False)

    def _loader(self, rows: list[dict[str, Any]], shuffle: bool) -> torch.utils.data.DataLoader[Any]:
        order = torch.Generator().manual_seed(self.seed)
        settings = {"batch_size": self.batch_size, "shuffle": shuffle, "generator": order}
        return torch.utils.data.DataLoader([sample(row) for row in rows], collate_fn=get_sft_collate_fn(), **settings)


def sample(row: dict[str, Any]) -> dict[str, Any]:
    """One row as LitGPT's collate function takes it."""
    ids = torch.tensor(row["ids"])
    labels = ids.clone()
    labels[: row["prompt"]] = -100
    counts = {"raw": len(ids), "raw_plus_prompt_template": len(ids)}
    return {"input_ids": ids, "labels": labels, "token_counts": counts}


def main(job: dict[str, Any]) -> None:
    from litgpt.finetune import full, lora

    precision = job["flags"].get("precision", "32-true")
    module = lora if job["kind"] == "lora" else full
    model = converted(Path(job["model"]))
    adapter = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.0, **{f"lora_{layer}": True for layer in LAYERS}}
    start_clock_with_first_batch(module)
    save_settings(module, adapter | {"checkpoint_dir": str(model), "precision": precision})
    rates = {"lr": job["lr"], "weight_decay": 0.0, "betas": [0.9, 0.999], "fused": True}
    module.setup(
        checkpoint_dir=model,
        out_dir=Path(job["out"]),
        precision=precision,
        data=Rows(job["tokens"], job["seed"]),
        train=TrainArgs(
            save_interval=None,
            global_batch_size=job["batch"],
            micro_batch_size=job["batch"],
            lr_warmup_steps=1,  # 0 divides by zero
            epochs=1,
        ),
        eval=EvalArgs(interval=10**9, max_new_tokens=1, max_iters=1, final_validation=False),
        optimizer={"class_path": "torch.optim.AdamW", "init_args": rates},
        seed=job["seed"],
        **(adapter if job["kind"] == "lora" else {}),
    )
    convert_lit_checkpoint(Path(job["out"]) / "final", Path(job["out"]))


def start_clock_with_first_batch(module: Any) -> None:
    """LitGPT validates and sets up within the function that trains; its first batch is where an epoch begins."""

    class Batches(module.CycleIterator):  # type: ignore[misc, name-defined]
        def __next__(self) -> Any:
            clock.begin()
            return super().__next__()

    module.CycleIterator = Batches


def save_settings(module: Any, settings: dict[str, Any]) -> None:
    """What merging an adapter reads afterwards; LitGPT takes it from its own command line, which is not used here."""

    def save(function: Any, folder: Path) -> None:
        (folder / "hyperparameters.yaml").write_text(json.dumps(settings))

    module.save_hyperparameters = save


def converted(model: Path) -> Path:
    """The model in LitGPT's format, beside the original; made once."""
    target = model.parent / f"{model.name}-litgpt" / NAME
    if not (target / "lit_model.pth").exists():
        shutil.copytree(model, target, dirs_exist_ok=True)
        convert_hf_checkpoint(target, model_name=NAME)
    return target


if __name__ == "__main__":
    clock.watch()
    main(clock.read_job())
    clock.report()
