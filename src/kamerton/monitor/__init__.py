"""Problems of a run, found while it trains or afterwards from its metrics."""

from kamerton.monitor.issue import Issue as Issue
