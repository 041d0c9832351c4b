"""One file for each command of `kamerton`."""
