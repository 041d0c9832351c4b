"""Score a model: predictions and log-probabilities by example, and the metrics computed from them."""
