"""Times TRL's preparation of a JSONL file of prompts and completions; run by `data.py` in TRL's own environment.

Usage: python data_trl.py ROWS.jsonl TOKENIZER_FOLDER PROCESSES
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path


def main(rows: str, tokenizer: str, processes: int) -> None:
    """Prints seconds and rows as JSON. The model is as small as can be: only the preparation is timed."""
    from datasets import Dataset, disable_caching, disable_progress_bars
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    disable_caching()
    disable_progress_bars()
    records = [json.loads(line) for line in Path(rows).read_text().splitlines()]
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": record["prompt"]}],
                "completion": [{"role": "assistant", "content": record["completion"]}],
            }
            for record in records
        ]
    )
    words = AutoTokenizer.from_pretrained(tokenizer)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes))
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(output_dir=folder, dataset_num_proc=processes or None, report_to=[], use_cpu=True)
        start = time.perf_counter()
        trainer = SFTTrainer(model, args=settings, train_dataset=data, processing_class=words)
        seconds = time.perf_counter() - start
    tokens = sum(map(len, trainer.train_dataset["input_ids"]))
    print(json.dumps({"seconds": seconds, "rows": len(trainer.train_dataset), "tokens": tokens}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
