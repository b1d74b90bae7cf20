"""The smoke test: shows on this machine that a checkpoint can be rebuilt into a model that runs.

A test climbs the levels of ``levels.py`` in order. It reads a `Checkpoint`: the files of a snapshot,
straight from the archive, or those of a folder. torch and transformers are imported inside functions
only; ``libraries.py`` is asked first.
"""
