"""Several requests as one run: steps of the same node compute them side by side where they may."""
