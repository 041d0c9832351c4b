"""Rows against rows: duplicates, labels, outliers."""
