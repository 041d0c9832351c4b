"""Shared by all report pages: layout, charts, templates."""
