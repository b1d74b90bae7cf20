"""Copy: make another folder a replica of an archive, or add this archive's snapshots to another one."""

from archiver.operations.copy.lost import lose
from archiver.operations.copy.report import CopyOptions, CopyReport
from archiver.operations.copy.run import copy

__all__ = ["CopyOptions", "CopyReport", "copy", "lose"]
