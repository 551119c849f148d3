"""Checks that a protocol keeps its secrets, for tests."""
