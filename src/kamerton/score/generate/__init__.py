"""Generated answers of a local model, vLLM or an endpoint."""
