"""Snapshots as a folder of plain read-only files, by FUSE."""
