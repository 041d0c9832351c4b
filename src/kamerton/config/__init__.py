"""Configuration: its schema, its composition by Hydra, and everything that can be wrong with it."""
