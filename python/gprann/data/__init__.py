"""Structures, their neighbours and what is predicted for them."""
