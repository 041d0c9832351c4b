"""Label scoring by Kamerton: python labels_kamerton.py JOB.json. What was found goes to a file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import clock
import numpy as np
import torch

from kamerton.data.encode.single_example import renderer
from kamerton.model.capabilities import choose_packing
from kamerton.model.fuse import fuse
from kamerton.model.load import load_model, load_tokenizer
from kamerton.score.labels.scores import Question, score
from kamerton.score.labels.tokens import LabelTokens

MAX_TOKENS = 2048  # what batch.max_tokens=auto chooses on a CPU with enough memory


def main(job: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(job["threads"])
    model, tokenizer = load_model(job["model"]), load_tokenizer(job["model"])
    fuse(model)
    choose_packing(model, "tree")
    rows = json.loads(Path(job["rows"]).read_text())[: job["count"]]
    ask(model, tokenizer, rows[:4], job)
    began = time.perf_counter()
    answers = ask(model, tokenizer, rows, job)
    seconds = time.perf_counter() - began
    peak = clock.peak_mib()
    result = {
        "predicted": [answer.predicted for answer in answers],
        "logprobs": [None if answer.logprobs is None else answer.logprobs.tolist() for answer in answers],
        "before": before(model, tokenizer, rows) if job["mode"] == "exact" else None,
    }
    Path(job["out"]).write_text(json.dumps(result))
    return {"seconds": seconds, "rows": len(rows), "peak_mib": peak}


def ask(model: Any, tokenizer: Any, rows: list[dict[str, str]], job: dict[str, Any]) -> list[Any]:
    """From texts to answers."""
    render, tokens = renderer(tokenizer), LabelTokens(tokenizer, job["labels"])
    questions = []
    for row in rows:
        prompt, reference = render(row["prompt"], row["completion"])
        ids = np.array([*prompt, *reference], dtype=np.int32)
        questions.append(Question(ids, np.arange(len(ids)) >= len(prompt), tokens(row["prompt"])))
    return score(model, questions, max_tokens=MAX_TOKENS, packing="tree", pad=0, mode=job["mode"])


def before(model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> list[float]:
    """The log-probability of the prompt's last token, the newline that lm-evaluation-harness counts with each label."""
    render = renderer(tokenizer)
    prompts = [np.array(render(row["prompt"], "x")[0], dtype=np.int32) for row in rows]
    questions = [Question(prompt, np.arange(len(prompt)) == len(prompt) - 1) for prompt in prompts]
    return [-answer.nll for answer in score(model, questions, max_tokens=MAX_TOKENS, packing="tree", pad=0)]


if __name__ == "__main__":
    print("\nRESULT " + json.dumps(main(clock.read_job())), flush=True)
