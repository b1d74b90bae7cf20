"""Where things lie in an archive (``docs/format.md``, section 2)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from archiver.names import as_repo_id, slug

INFO: Final = "archive.json"
PACKS: Final = "packs"
MANIFESTS: Final = "manifests"
SNAPSHOTS: Final = "snapshots"
JOURNAL: Final = "journal"
TMP: Final = "tmp"
CATALOGUE: Final = "catalogue.sqlite"

_DOCUMENT = re.compile(
    r"(?:manifests|snapshots)/[^/]+/[^/]+/([0-9a-f]{40})\.([0-9a-f]{64})\.json(?:\.zst)?\Z"
)
_PACK = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})\.pack\Z")
_EVENT = re.compile(r"journal/\d{4}/\d{2}/(\d{8}t\d{6}z)\.([0-9a-f]{64})\.json\Z")


class DocumentName(NamedTuple):
    """What the name of a manifest or seal says about it."""

    revision: str
    digest: str


def pack_name(pack: str) -> str:
    """The name of the pack whose BLAKE3 is ``pack``."""
    return f"{PACKS}/{pack[:2]}/{pack}.pack"


def pack_of(name: str) -> str | None:
    """The pack's BLAKE3, or None if ``name`` is not a pack's name."""
    found = _PACK.match(name)
    return found.group(2) if found else None


def manifest_name(repository: str, revision: str, digest: str) -> str:
    """The name of a manifest."""
    return f"{MANIFESTS}/{slug(as_repo_id(repository))}/{revision}.{digest}.json.zst"


def seal_name(repository: str, revision: str, digest: str) -> str:
    """The name of a seal."""
    return f"{SNAPSHOTS}/{slug(as_repo_id(repository))}/{revision}.{digest}.json"


def document_of(name: str) -> DocumentName | None:
    """Revision and digest in the name of a manifest or seal, or None if it is neither."""
    found = _DOCUMENT.match(name)
    return DocumentName(*found.groups()) if found else None


def event_name(time: str, digest: str) -> str:
    """The name of an event; ``time`` is ``YYYY-MM-DDTHH:MM:SSZ``."""
    compact = time.replace("-", "").replace(":", "").lower()
    return f"{JOURNAL}/{time[:4]}/{time[5:7]}/{compact}.{digest}.json"


def event_of(name: str) -> str | None:
    """The event's BLAKE3, or None if ``name`` is not an event's name."""
    found = _EVENT.match(name)
    return found.group(2) if found else None
