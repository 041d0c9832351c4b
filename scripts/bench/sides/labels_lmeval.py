"""Label scoring by lm-evaluation-harness, as a local multiple-choice task: python labels_lmeval.py JOB.json.

The clock counts the harness's own scoring alone, its tokenising included: not loading, and not building the task.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import clock
import torch
from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

BATCH = 32  # of 8, 32 and 77 the fastest


def main(job: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(job["threads"])
    model = HFLM(pretrained=job["model"], dtype="float32", device="cpu", batch_size=BATCH)
    rows = json.loads(Path(job["rows"]).read_text())[: job["count"]]
    endings = [label + model.tokenizer.eos_token for label in job["labels"]]
    file = Path(job["out"]).with_suffix(".jsonl")
    file.write_text("".join(json.dumps(document(model.tokenizer, row, job["labels"])) + "\n" for row in rows))
    task = ConfigurableTask(
        config={
            "task": "banking77",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(file)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}",
            "doc_to_choice": endings,
            "doc_to_target": "target",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc"}],
        }
    )
    spent: list[float] = []
    own = model.loglikelihood

    def timed(requests: list[Any], *args: Any, **kwargs: Any) -> Any:
        own(requests[:BATCH], disable_tqdm=True)
        began = time.perf_counter()
        answers = own(requests, *args, **kwargs)
        spent.append(time.perf_counter() - began)
        return answers

    model.loglikelihood = timed
    result = simple_evaluate(model, tasks=[task], num_fewshot=0, bootstrap_iters=0, log_samples=True)
    samples = sorted(result["samples"]["banking77"], key=lambda sample: sample["doc_id"])
    logprobs = [[response[0][0] for response in sample["resps"]] for sample in samples]
    predictions = {"predicted": [max(range(len(row)), key=row.__getitem__) for row in logprobs], "logprobs": logprobs}
    Path(job["out"]).write_text(json.dumps(predictions))
    return {"seconds": sum(spent), "rows": len(rows), "peak_mib": clock.peak_mib()}


def document(tokenizer: Any, row: dict[str, str], labels: list[str]) -> dict[str, Any]:
    """One row with its prompt as the model's template writes it."""
    turns = [{"role": "user", "content": row["prompt"]}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return {"text": text, "target": labels.index(row["completion"])}


if __name__ == "__main__":
    print("\nRESULT " + json.dumps(main(clock.read_job())), flush=True)
