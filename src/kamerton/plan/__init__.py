"""Planning an epoch: the examples of each optimizer step, and its layout in micro-batches."""
