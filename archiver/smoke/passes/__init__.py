"""Levels ``forward`` and ``generate``: what a model computes, and whether that can be."""
