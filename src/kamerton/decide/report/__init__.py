"""Pages and terminal output of runs, comparisons and cross-validations."""
