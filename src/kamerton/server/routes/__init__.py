"""The routes of the API, and what they read and write."""
