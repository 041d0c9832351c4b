"""Fixtures of runs and reports."""

from support.reports import make_run, read_page

__all__ = ["make_run", "read_page"]
