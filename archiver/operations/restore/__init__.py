"""Restore: write a snapshot, single files of it or one tensor to disk, compared with its manifest."""
