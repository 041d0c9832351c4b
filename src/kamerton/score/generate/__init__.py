"""Generated answers: of a model here, of vLLM, of an endpoint."""
