"""Search for the hyperparameters of a surrogate."""
