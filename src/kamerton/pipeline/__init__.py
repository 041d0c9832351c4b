"""One run from top to bottom: prepare, fit, finish."""
