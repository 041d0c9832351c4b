"""Fine-tuning a model at a provider that hosts it."""
