"""Status: what of an archive is proven, copied and protected, and what falls short of its policy.

No pack is read. Nothing is written.
"""

from archiver.operations.status.report import (
    Coverage,
    PackStatus,
    Place,
    Shortfall,
    SmokeTested,
    Status,
)
from archiver.operations.status.status import status

__all__ = ["Coverage", "PackStatus", "Place", "Shortfall", "SmokeTested", "Status", "status"]
