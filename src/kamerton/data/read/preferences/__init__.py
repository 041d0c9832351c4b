"""Rows with several completions of a prompt, of which some are better: pairs, judged completions, rankings."""
