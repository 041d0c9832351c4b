"""From files to encoded examples: read, check, clean, split, encode."""
