"""Two or more score tables compared: sides, differences with their tests, slices, gate."""
