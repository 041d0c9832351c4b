"""Training objectives as pure functions of log-probabilities; each names its source."""
