"""The protocols, an idea a file: generators that yield once a round (docs/protocols.md)."""
