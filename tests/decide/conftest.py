"""Fixtures of runs and reports."""

from support.reports import browser, make_run, read_page

__all__ = ["browser", "make_run", "read_page"]
