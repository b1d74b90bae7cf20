"""Fixity checks: whether a stored file, or an object in it, is what its name and the records say."""
