"""A computing party, from its first connection to its last."""
