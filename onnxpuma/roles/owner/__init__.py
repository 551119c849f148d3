"""The owner of the model."""
