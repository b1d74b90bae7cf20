"""Packs: the files that hold objects (``docs/format.md``, section 3)."""
