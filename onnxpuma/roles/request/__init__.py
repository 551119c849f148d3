"""What client and servers agree about: a request and its answer as they are written down."""
