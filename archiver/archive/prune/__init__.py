"""Deleting what no snapshot needs: condemned first, then in the trash, then gone.

Why it is safe beside writers that take no lock is told in ``docs/decisions``, "Deleting looks twice".
"""
