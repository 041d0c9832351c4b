"""The run directory, read by every later stage, and how its model is loaded."""
