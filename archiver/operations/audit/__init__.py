"""Audit: prove that an archive holds what its seals say, or name everything that it does not."""
