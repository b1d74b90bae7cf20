"""Repair: bring back what an audit finds damaged or missing, from every place that still has it.

Nothing is filled with zeros, no manifest is ever rewritten, and no damaged byte is hashed into anything
new. What is replaced stays in ``quarantine/``.
"""

from archiver.operations.repair.report import RepairReport
from archiver.operations.repair.run import RepairOptions, repair

__all__ = ["RepairOptions", "RepairReport", "repair"]
