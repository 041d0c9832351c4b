"""Which examples form each optimizer step, and how a step is cut for the hardware."""
