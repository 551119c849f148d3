"""The pieces of `tools/matrix.py`: what is exported by what, how it is run on shares, the page about it."""
