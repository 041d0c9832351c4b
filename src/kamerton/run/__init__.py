"""The run directory: what every later stage reads, and how a model is made of it again."""
