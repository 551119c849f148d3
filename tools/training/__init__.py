"""What the `train_*.py` scripts share: the blocks, the loop, the corpus, the folder a model ships in."""
