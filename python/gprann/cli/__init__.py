"""The command `gprann`: a thin shell over the Python interface."""
