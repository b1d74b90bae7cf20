"""The catalogue: an SQL index over an archive. A hint, never an authority, and always rebuildable.

This package imports nothing by itself: whoever imports one of its modules pays for SQLAlchemy, and
nobody else does.
"""
