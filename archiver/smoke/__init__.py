"""The smoke test: shows on this machine that a checkpoint can be rebuilt into a model that runs.

``run`` is what the command calls: it starts a child, ``worker``, which climbs the levels of ``report`` in
order, and watches it. A test reads a `Checkpoint`: the files of a snapshot, straight from the archive, or
those of a folder. torch and transformers are imported inside functions only; ``libraries`` is asked first.
"""
