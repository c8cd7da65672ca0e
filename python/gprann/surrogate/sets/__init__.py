"""Several surrogates for one data set."""
