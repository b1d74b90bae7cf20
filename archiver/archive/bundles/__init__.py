"""Bundles: snapshots on volumes, for a machine that no network reaches (``docs/bundles.md``)."""
