"""Sweeps: a study's trials as runs, what they are worth, the best one's test, and the report of all."""
