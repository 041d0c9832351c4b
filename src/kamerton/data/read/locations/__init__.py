"""The files that a path, a folder, an archive or an address names, each with its split."""
