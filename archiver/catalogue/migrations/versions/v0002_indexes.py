"""The indexes by which files, snapshots and events are looked up."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create them."""
    op.create_index("ix_files_sha256_size", "files", ["sha256", "size"])
    op.create_index("ix_files_oid_size", "files", ["oid", "size"])
    op.create_index(
        "ix_snapshots_repository_id_revision", "snapshots", ["repository_id", "revision"]
    )
    op.create_index("ix_snapshots_manifest_id", "snapshots", ["manifest_id"])
    op.create_index("ix_events_repository_time", "events", ["repository", "time"])
    op.create_index("ix_events_time", "events", ["time"])
