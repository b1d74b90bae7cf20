"""Checking: what is read, what it shows, and which files and tensors it hits."""
