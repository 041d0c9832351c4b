"""Watch a fine-tune while it trains, and stop it when something is wrong with it.

python scripts/examples/advanced.py DATA [--model NAME] [--learning-rate RATE] [--epochs NUMBER]
"""

from __future__ import annotations

import argparse
import asyncio

from kamerton import FineTuningConfig, FineTuningManager, TrainingMonitor


async def main(raw: str, model: str, learning_rate: float, epochs: int, root: str) -> None:
    manager, monitor = FineTuningManager(root=root), TrainingMonitor(root=root)
    processed = await manager.prepare_data(raw)
    config = FineTuningConfig(
        model=model,
        epochs=epochs,
        batch_size=4,
        learning_rate=learning_rate,
        evaluation_strategy="steps",
        evaluation_steps=50,
        saving_strategy="steps",
        overrides=["callbacks.early_stopping=null"],  # what ends the run is said below
    )
    job = await manager.start_training(config, processed)
    print(f"job {job.id}")

    async for metrics in monitor.stream_metrics(job.id):
        print(f"step {metrics.step}: loss {metrics.loss}, learning rate {metrics.learning_rate}")
        issues = monitor.detect_issues(metrics)
        for issue in issues:
            print(f"{issue.severity}: {issue.code} at step {issue.step}: {issue.message}; {issue.advice}")
        if issues and metrics.state == "running":
            await job.stop()
            break

    status = await job.wait()
    print(f"{status.state} at step {status.step} of {status.steps}")
    if status.state == "succeeded":
        print(await manager.evaluate_model(job.model_id))
    print(monitor.generate_report(job.id))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a JSONL, CSV or Parquet file")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--root", default="outputs")
    options = parser.parse_args()
    asyncio.run(main(options.data, options.model, options.learning_rate, options.epochs, options.root))
