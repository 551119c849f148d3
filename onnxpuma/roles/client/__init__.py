"""The owner of the data."""
