"""Protocol: what clients send and get, the same inside vLLM and from our own server."""
