"""The language model: loading, adapters, the tree engine, the loss."""
