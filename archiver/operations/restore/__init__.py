"""Restore: write a snapshot, one file or one tensor to disk, compared with its manifest.

Needs neither network nor SQL.
"""

from archiver.operations.restore.report import RestoredTensor, RestoreFailure, RestoreReport
from archiver.operations.restore.snapshot import restore
from archiver.operations.restore.tensor import restore_tensor

__all__ = ["RestoreFailure", "RestoreReport", "RestoredTensor", "restore", "restore_tensor"]
