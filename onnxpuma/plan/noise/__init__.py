"""Noise on outputs: what the owner wishes, what it costs in privacy, and what is recorded of it."""
