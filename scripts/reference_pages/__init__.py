"""The pages of docs/reference, one module each; scripts/reference.py writes them."""
