"""Training sets larger than memory: features in files, and training that streams them."""
