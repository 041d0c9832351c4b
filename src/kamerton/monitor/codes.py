"""The codes of what detectors find, known without importing them: a configuration names some."""

CODES = (
    "non-finite-loss",
    "non-finite-gradient",
    "loss-spike",
    "no-targets",
    "zero-gradient",
    "learning-rate-too-high",
    "divergence",
    "learning-rate-too-low",
    "plateau",
    "underfitting",
    "vanishing-gradient",
    "always-clipped",
    "data-starvation",
    "throughput-drop",
    "memory-creep",
    "overfitting",
    "suspicious-validation",
    "prediction-collapse",
    "nothing-learnt",
)
