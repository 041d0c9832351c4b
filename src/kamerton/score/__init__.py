"""One row per example: predictions, log-probabilities and the metrics computed from them."""
