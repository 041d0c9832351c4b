"""Models that are trained elsewhere: a run directory like any other, behind an OpenAI-compatible fine-tuning API."""
