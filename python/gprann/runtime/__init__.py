"""Threads, memory, messages and files: what the machine offers a run."""
