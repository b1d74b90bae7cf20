"""What deleting stands on: a whole history, what is needed now, the trash, and condemnations.

Why it is safe beside writers that take no lock is told in ``docs/decisions``, "Deleting looks twice".
"""
