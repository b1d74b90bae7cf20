"""Status: what of an archive is proven, copied and protected, and what falls short of its policy.

No pack is read. Places that hold copies are looked at, by names only. Nothing is written.
"""

from archiver.operations.status.report import (
    Coverage,
    LastAudit,
    PackStatus,
    Shortfall,
    SmokeTested,
    Status,
)
from archiver.operations.status.status import status

__all__ = ["Coverage", "LastAudit", "PackStatus", "Shortfall", "SmokeTested", "Status", "status"]
