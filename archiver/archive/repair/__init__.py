"""Bringing stored files back: from second copies, other archives, parity, plain folders and upstream.

Nothing is taken for granted: a copy counts once it was read back and has the digest that its name
demands, and what it replaces is kept in ``quarantine/``.
"""
