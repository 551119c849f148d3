"""Small protocols that run often: rehearsed once, and then replayed as a flat list of calls."""
