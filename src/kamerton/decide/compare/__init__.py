"""Comparison of score tables: configurations, differences with their tests, slices, gate."""
