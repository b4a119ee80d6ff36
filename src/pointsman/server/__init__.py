"""Server: chat completions over HTTP from our own engine, where the router is the model auto."""
