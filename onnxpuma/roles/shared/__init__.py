"""A shared model on disk: its public part, and the file of one party's shares."""
