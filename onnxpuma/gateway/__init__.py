"""The OpenAI HTTP API at the client: it sees the text, and the three servers behind it see shares alone."""
