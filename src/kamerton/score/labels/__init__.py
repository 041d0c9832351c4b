"""Label scoring: exact log-probabilities of all labels, or the most likely label by search."""
