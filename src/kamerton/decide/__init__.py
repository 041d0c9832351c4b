"""From score tables to decisions: reports, comparisons, gates."""
