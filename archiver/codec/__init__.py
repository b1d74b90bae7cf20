"""Segment bytes <-> Zstandard frames: a closed, numbered registry of reversible transforms."""
