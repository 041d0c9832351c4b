"""The work of the training benchmark: which rows, which batch, and which sides do it."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "smollm2"
NO_SYSTEM = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INSTRUCTION = (
    "Which intent does the customer's message have? Answer with one of these and nothing else: {}.\n\nMessage: {}"
)


@dataclass(frozen=True)
class Task:
    """`rows` fixed rows of `data`, one epoch in steps of `batch`; `targets` is the speed that is aimed at."""

    title: str
    data: str
    kind: str
    lr: float
    rows: int
    batch: int
    held_out: int
    sides: tuple[str, ...]
    target: float
    system: bool = True


USUAL = ("kamerton", "plain", "trl-padding-free", "lf-grouped", "litgpt", "trl", "kamerton-lean")
GSM = ("kamerton", "plain", "trl-padding-free", "trl-grouped", "lf-grouped", "litgpt", "trl", "kamerton-lean")
TASKS = {
    "bank-lora": Task("BANKING77, LoRA", "banking77", "lora", 1e-4, 192, 8, 64, USUAL, 1.8),
    "bank-full": Task("BANKING77, every weight", "banking77", "full", 1e-5, 192, 8, 64, USUAL, 1.6),
    "gsm-lora": Task("GSM8K, LoRA", "gsm8k", "lora", 1e-4, 48, 4, 16, GSM, 1.5),
    "gsm-full": Task("GSM8K, every weight", "gsm8k", "full", 1e-5, 48, 4, 16, GSM, 1.5),
    "bank-lora-nosys": Task(
        "BANKING77, LoRA, no system prompt", "banking77", "lora", 1e-4, 192, 8, 64, USUAL, 1.5, system=False
    ),
    "bank-lora-labels": Task(
        "BANKING77, LoRA, all 77 labels in the instruction", "banking77-labels", "lora", 1e-4, 48, 8, 16, USUAL, 5.0
    ),
}

LEAN = 64  # tokens of one forward pass; a longer row gets a pass of its own

# What each side is: the script that runs it, the environment it runs in, its flags, and the words for the table.
# The number format is float32 unless named: `bf16` is autocast to bfloat16, `pure` weights and optimizer in bfloat16.
TRL_FAST: dict[str, Any] = {"gradient_checkpointing": False}
TRL_GROUPED = TRL_FAST | {"train_sampling_strategy": "group_by_length"}
LF_FAST = {"disable_gradient_checkpointing": True, "train_sampling_strategy": "group_by_length"}
SIDES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "kamerton": ("with_kamerton.py", "", {}, "Kamerton"),
    "kamerton-bfloat16": (
        "with_kamerton.py",
        "",
        {"overrides": ["model.matmul=bfloat16"]},
        "Kamerton, `model.matmul=bfloat16`",
    ),
    "kamerton-lean": (
        "with_kamerton.py",
        "",
        {"overrides": [f"batch.max_tokens={LEAN}"]},
        f"Kamerton, `batch.max_tokens={LEAN}`",
    ),
    "plain": ("plain.py", "", {}, "a hand-written loop"),
    "trl": ("with_trl.py", "trl", {}, "TRL, as it comes"),
    "trl-padding-free": ("with_trl.py", "trl", TRL_FAST | {"padding_free": True}, "TRL, `padding_free`"),
    "trl-grouped": (
        "with_trl.py",
        "trl",
        TRL_GROUPED,
        "TRL, `group_by_length`",
    ),
    "trl-grouped-bf16": ("with_trl.py", "trl", TRL_GROUPED | {"bf16": True}, "TRL, `group_by_length`, `bf16`"),
    "trl-grouped-pure": (
        "with_trl.py",
        "trl",
        TRL_GROUPED | {"dtype": "bfloat16"},
        "TRL, `group_by_length`, model in bfloat16",
    ),
    "lf": ("with_llamafactory.py", "llamafactory", {}, "LLaMA-Factory, as it comes"),
    "lf-grouped": ("with_llamafactory.py", "llamafactory", LF_FAST, "LLaMA-Factory, `group_by_length`"),
    "lf-grouped-bf16": ("with_llamafactory.py", "llamafactory", LF_FAST | {"bf16": True}, "LLaMA-Factory, `bf16`"),
    "lf-grouped-pure": (
        "with_llamafactory.py",
        "llamafactory",
        LF_FAST | {"pure_bf16": True},
        "LLaMA-Factory, `pure_bf16`",
    ),
    "litgpt": ("with_litgpt.py", "litgpt", {}, "LitGPT"),
    "litgpt-mixed": ("with_litgpt.py", "litgpt", {"precision": "bf16-mixed"}, "LitGPT, `bf16-mixed`"),
    "litgpt-pure": ("with_litgpt.py", "litgpt", {"precision": "bf16-true"}, "LitGPT, `bf16-true`"),
}
ONCE = (
    "plain",
    "litgpt",
    "litgpt-mixed",
    "trl",
    "lf",
    "kamerton-lean",
)  # never the fastest peer: measured in the first repeat only


def write_task(name: str, data: Path, folder: Path, limit: int | None) -> dict[str, Any]:
    """Rows, ready-made tokens, held-out tokens and the model of one task, in `folder`; returns their paths.

    `limit` takes only so many optimizer steps of it.
    """
    task = TASKS[name]
    folder.mkdir(parents=True, exist_ok=True)
    model = write_model(folder.parent / "models", task.system)
    train, held_out = read_rows(task.data, data, task.rows, task.held_out)
    train = train[: limit * task.batch if limit else None]
    files = {"rows": folder / "train.jsonl", "tokens": folder / "train.json", "held_out": folder / "held_out.json"}
    files["rows"].write_text("".join(json.dumps(row) + "\n" for row in train))
    for rows, key in ((train, "tokens"), (held_out, "held_out")):
        files[key].write_text(json.dumps(tokenize(rows, model)))
    return {"model": str(model), **{key: str(path) for key, path in files.items()}}


def read_rows(kind: str, data: Path, count: int, held_out: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Fixed rows to train on and to judge by, always the same ones."""
    if kind == "gsm8k":
        train, test = (questions(data / f"gsm8k/{name}.jsonl") for name in ("train", "test"))
    else:
        train, test = (banking(data / f"banking77/{name}.csv", kind) for name in ("train", "test"))
    draw = random.Random(0)
    return draw.sample(train, count), draw.sample(test, held_out)


def questions(path: Path) -> list[dict[str, str]]:
    """Sums in words and how they are worked out."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{"prompt": row["question"], "completion": row["answer"]} for row in rows]


def banking(path: Path, kind: str) -> list[dict[str, str]]:
    """Questions to a bank and their intents; with `-labels`, after an instruction that lists all of them."""
    with path.open(newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    labels = ", ".join(sorted({label for _, label in rows}))
    prompts = [INSTRUCTION.format(labels, text) if kind.endswith("labels") else text for text, _ in rows]
    return [{"prompt": prompt, "completion": label} for prompt, (_, label) in zip(prompts, rows, strict=True)]


def write_model(folder: Path, system: bool) -> Path:
    """The embedded model in Hugging Face format; without the template's system prompt if asked so."""
    from kamerton.assets import fetch
    from kamerton.config.compose import compose_values
    from kamerton.model.load import convert_gguf

    source = convert_gguf(fetch(compose_values([f"model={MODEL}"])["model"]["name"]))
    target = folder / ("system" if system else "nosystem")
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if not (target / file.name).exists():
            (target / file.name).symlink_to(file)
    template = target / "chat_template.jinja"
    if not system:
        template.unlink()
        template.write_text(NO_SYSTEM)
    return target


def tokenize(rows: list[dict[str, str]], model: Path) -> list[dict[str, Any]]:
    """Token ids of each row, and how many of them are prompt; the rest are targets."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(model)
    examples = []
    for row in rows:
        turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        prompt = words.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
        whole = words.apply_chat_template(turns, tokenize=False)
        ids = [words(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole)]
        if ids[1][: len(ids[0])] != ids[0]:
            raise SystemExit(f"the tokens of the prompt are not those the whole begins with: {prompt!r}")
        examples.append({"ids": ids[1], "prompt": len(ids[0])})
    return examples
