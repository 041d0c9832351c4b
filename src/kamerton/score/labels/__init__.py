"""Log-probabilities of labels: every one exactly, or the most likely one by search."""
