"""Objectives of training: from predictions to the loss of a step and its metrics."""
