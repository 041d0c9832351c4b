"""Detect problems of a run from its metrics, during training or afterwards."""

from kamerton.monitor.issue import Issue as Issue
