"""Conversations: turns, calls, functions, reasoning and weights in the forms that files have."""
