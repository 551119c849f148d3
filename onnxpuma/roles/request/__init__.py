"""The wire form of a request and of its answer, on which client and servers agree."""
