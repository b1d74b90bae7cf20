"""Where repositories come from: a hub, or a disk."""
