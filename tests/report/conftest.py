"""Fixtures of runs and reports."""

from support.reports import browser, make_run, shown_run

__all__ = ["browser", "make_run", "shown_run"]
