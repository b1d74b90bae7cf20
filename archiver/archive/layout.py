"""Where things lie in an archive (``docs/format.md``, section 2)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from archiver.names import HUGGING_FACE, MODEL, RepositoryName, as_repo_id, slug

INFO: Final = "archive.json"
PLACE: Final = "place.json"
PACKS: Final = "packs"
MANIFESTS: Final = "manifests"
SNAPSHOTS: Final = "snapshots"
JOURNAL: Final = "journal"
PARITY: Final = "parity"
SIGNATURES: Final = "signatures"
TMP: Final = "tmp"
QUARANTINE: Final = "quarantine"
TRASH: Final = "trash"
CATALOGUE: Final = "catalogue.sqlite"
JOURNAL_SUMMARY: Final = f"{TMP}/journal-summary"
STANDING_EVENTS: Final = f"{TMP}/standing-events"
BUNDLES: Final = "bundles"
"""What is known of bundles that came in or went out (``docs/bundles.md``); no reader needs it."""
FOLDERS: Final = (
    *(PACKS, MANIFESTS, SNAPSHOTS, JOURNAL, PARITY, SIGNATURES, TMP, QUARANTINE, TRASH, BUNDLES),
)
"""The folders that an archive writes to; none of them may be a link."""

_VOLUME_PAPERS: Final = (
    "volume.json",
    "bundle.json",
    "MANIFEST.md",
    "START-HERE.html",
    "sha256sums.txt",
)
"""What a bundle's volume has in its root besides: it is a small archive."""
RESERVED: Final = ("report.html", "report.json", *_VOLUME_PAPERS)
"""Files in the root that are none of an archive's own, and"""
RESERVED_FOLDERS: Final = (BUNDLES, "pieces", "receipts", "tools", "bases")
"""folders; no reader of an archive needs them."""

_DOCUMENT = re.compile(
    r"(?:manifests|snapshots)/(?:[^/]+/)+([0-9a-f]{40}(?:[0-9a-f]{24})?)\.([0-9a-f]{64})\.json(?:\.zst)?\Z"
)
"""Read from its end: whatever folders are above, the last part says which document it is."""
_PACK = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})\.pack\Z")
_EVENT = re.compile(r"journal/\d{4}/\d{2}/(\d{8}t\d{6}z)\.([0-9a-f]{64})\.json\Z")
_PARITY = re.compile(r"parity/([0-9a-f]{2})/(\1[0-9a-f]{62})\.par\Z")
_SIGNATURE = re.compile(r"signatures/([0-9a-f]{2})/(\1[0-9a-f]{62})\.([0-9a-f]{16})\.minisig\Z")
_QUARANTINED = re.compile(
    r"(?:quarantine|trash)/(\d{8}t\d{6}z)/([a-z0-9_-][a-z0-9._-]*(?:/[a-z0-9_-][a-z0-9._-]*)*)\Z"
)


class DocumentName(NamedTuple):
    """What the name of a manifest or seal says about it."""

    revision: str
    digest: str


def pack_name(pack: str) -> str:
    """Return the name of the pack whose BLAKE3 is ``pack``."""
    return f"{PACKS}/{pack[:2]}/{pack}.pack"


def pack_of(name: str) -> str | None:
    """Return the pack's BLAKE3, or None if ``name`` is not a pack's name."""
    match = _PACK.match(name)
    return match.group(2) if match else None


def manifest_name(repository: str, revision: str, digest: str) -> str:
    """Return the name of a manifest."""
    return f"{MANIFESTS}/{slug(as_repo_id(repository))}/{revision}.{digest}.json.zst"


def seal_name(repository: str, revision: str, digest: str) -> str:
    """Return the name of a seal."""
    return f"{SNAPSHOTS}/{slug(as_repo_id(repository))}/{revision}.{digest}.json"


def is_reserved(name: str) -> bool:
    """Return whether later versions may put files of this name there, which are no business of ours."""
    top, slash, _ = name.partition("/")
    return name in RESERVED or bool(slash and top in RESERVED_FOLDERS)


def document_of(name: str) -> DocumentName | None:
    """Return revision and digest in the name of a manifest or seal, or None if it is neither."""
    match = _DOCUMENT.match(name)
    return DocumentName(*match.groups()) if match else None


def repository_hint(name: str) -> str:
    """Return the repository that the folders of a manifest or seal stand for, as far as they tell."""
    *above, org, short = ["", *name.split("/")[1:-1]][-3:]
    hub, dot, kind = (above[-1] if above else "").partition(".")
    full = short if org in {"", "_"} else f"{org}/{short}"
    return RepositoryName(hub if dot else HUGGING_FACE, kind or MODEL, full).spelling


def is_seal(name: str) -> bool:
    """Return whether it is the name of a seal."""
    return name.startswith(f"{SNAPSHOTS}/") and document_of(name) is not None


def event_name(time: str, digest: str) -> str:
    """Return the name of an event; ``time`` is ``YYYY-MM-DDTHH:MM:SSZ``."""
    return f"{JOURNAL}/{time[:4]}/{time[5:7]}/{_compact(time)}.{digest}.json"


@lru_cache(1 << 16)  # each reading of the journal asks this of every name, twice
def event_of(name: str) -> str | None:
    """Return the event's BLAKE3, or None if ``name`` is not an event's name."""
    match = _EVENT.match(name)
    return match.group(2) if match else None


def event_moment(name: str) -> str:
    """Return what says in an event's name when it was: the later the greater."""
    return name.rpartition("/")[2].partition(".")[0]


def digest_of(name: str) -> str | None:
    """Return the digest in the name of a pack, manifest, seal or event, or None if it has another name."""
    document = document_of(name)
    return document.digest if document else pack_of(name) or event_of(name)


def parity_name(digest: str) -> str:
    """Return the name of the parity sidecar of the file with ``digest`` in its name."""
    return f"{PARITY}/{digest[:2]}/{digest}.par"


def parity_of(name: str) -> str | None:
    """Return the digest of the file that a sidecar of this name protects, or None if it is no sidecar."""
    match = _PARITY.match(name)
    return match.group(2) if match else None


class SignatureName(NamedTuple):
    """What the name of a signature says: the signed document, and the key's id as 16 hexadecimal digits."""

    digest: str
    key: str


def signature_name(digest: str, key: str) -> str:
    """Return the name of the signature by the key ``key`` of the document with ``digest`` in its name."""
    return f"{SIGNATURES}/{digest[:2]}/{digest}.{key}.minisig"


def signature_of(name: str) -> SignatureName | None:
    """Return document and key in the name of a signature, or None if ``name`` is no signature's."""
    match = _SIGNATURE.match(name)
    return SignatureName(match.group(2), match.group(3)) if match else None


def _compact(time: str) -> str:
    return time.replace("-", "").replace(":", "").lower()


def quarantined_name(folder: str, time: str, name: str) -> str:
    """Return where a file goes that is taken out of use: ``folder`` is QUARANTINE or TRASH."""
    return f"{folder}/{_compact(time)}/{name.lower()}"


class QuarantinedName(NamedTuple):
    """When a file was taken out of use (``YYYY-MM-DDTHH:MM:SSZ``), and its name before."""

    time: str
    name: str


def quarantined_of(name: str) -> QuarantinedName | None:
    """Return what the name of a file in quarantine or trash says, or None if it is no such name."""
    match = _QUARANTINED.match(name)
    if not match:
        return None
    t = match.group(1).upper()
    time = f"{t[:4]}-{t[4:6]}-{t[6:11]}:{t[11:13]}:{t[13:]}"
    return QuarantinedName(time, match.group(2))
