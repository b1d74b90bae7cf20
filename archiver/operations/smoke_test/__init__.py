"""Smoke test: run the model of a snapshot, straight from the archive, or of a folder.

Nothing but an event is written, and a golden record's file if one is asked for.
"""

from archiver.operations.smoke_test.due import next_due
from archiver.operations.smoke_test.records import SmokeOptions, SmokeTest
from archiver.operations.smoke_test.run import (
    smoke_test_folder,
    smoke_test_restored,
    smoke_test_snapshot,
)

__all__ = [
    "SmokeOptions",
    "SmokeTest",
    "next_due",
    "smoke_test_folder",
    "smoke_test_restored",
    "smoke_test_snapshot",
]
