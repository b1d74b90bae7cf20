"""Copy: make, or add to, another archive that holds the same snapshots."""
