"""Fine-tune a model from Python, from raw data to a ranking: python scripts/examples/basic.py [DATA] [--model NAME]"""

from __future__ import annotations

import argparse
import asyncio

from kamerton import FineTuningConfig, FineTuningManager, TrainingMonitor
from kamerton.shell import command_line

ROWS = [
    {"prompt": f"Is a {word} number {number} an animal?", "completion": answer}
    for number in range(100)
    for word, answer in (("cat", "yes"), ("spoon", "no"))
]


async def main(raw: object, model: str, root: str) -> None:
    manager = FineTuningManager(root=root)
    processed = await manager.prepare_data(raw)
    validation = await manager.validate_data(processed)
    for fault in (*validation.errors, *validation.warnings):
        print(fault)
    if not validation.is_valid:
        return

    parts = processed.split([0.7, 0.15, 0.15])
    config = FineTuningConfig(
        model=model,
        epochs=3,
        batch_size=8,
        learning_rate=1e-5,
        warmup_steps=100,
        weight_decay=0.01,
        evaluation_strategy="steps",
        saving_strategy="epoch",
    )
    job = await manager.start_training(config, parts)
    print(f"job {job.id}: {command_line('runs', 'watch', job.path)}")
    while (status := await manager.monitor_progress(job.id)).is_active:
        left = "" if status.eta_s is None else f", {status.eta_s:.0f} s left"
        print(f"{status.state}: step {status.step or 0} of {status.steps or '?'}{left}")
        await asyncio.sleep(1)
    print(f"{status.state} {status.error or ''}")

    monitor = TrainingMonitor(root=root)
    metrics = await monitor.track_metrics(job.id)
    print(metrics)
    for issue in monitor.detect_issues(metrics):
        print(f"{issue.severity}: {issue.message}; {issue.advice}")
    result = await manager.evaluate_model(job.model_id)
    print(f"accuracy {result.accuracy}, f1 {result.f1}, precision {result.precision}, recall {result.recall}")
    for fault in monitor.validate_results(result).errors:
        print(fault)
    for place in (await manager.compare_models([job.model_id, model])).models:
        print(f"{place.rank}. {place.model_id} {place.verdict or ''}")
    print(monitor.generate_report(job.id))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=ROWS, help="a JSONL, CSV or Parquet file")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--root", default="outputs")
    options = parser.parse_args()
    asyncio.run(main(options.data, options.model, options.root))
