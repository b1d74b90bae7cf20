"""Audit: prove that an archive holds what its seals say, or list everything that it does not.

Nothing but events is written to it, or nothing at all; a statement goes where it is asked for.
"""

from archiver.operations.audit.audit import AuditReport, audit
from archiver.operations.audit.statement import ReportFile

__all__ = ["AuditReport", "ReportFile", "audit"]
