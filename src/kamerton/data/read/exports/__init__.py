"""Exports and logs of other programs as rows with the usual columns."""
