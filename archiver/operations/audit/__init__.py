"""Audit: prove that an archive holds what its seals say, or list everything that it does not.

Nothing but events is written.
"""

from archiver.operations.audit.audit import AuditReport, audit

__all__ = ["AuditReport", "audit"]
