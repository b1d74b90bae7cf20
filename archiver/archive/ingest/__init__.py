"""The way in: streams of files become objects in packs."""
