"""Bundles: writing volumes, checking them, taking them in."""
