"""The way in: from a file's bytes to objects in packs, and what a run that was killed left there."""
