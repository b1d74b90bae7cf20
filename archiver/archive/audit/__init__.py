"""Auditing: what was proven when, what is due, reading that, and judging every snapshot by it."""
