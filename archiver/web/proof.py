"""Proof with every answer: which seal a file is of, when it was last proven, and who vouched for it.

Headers beside the bytes of each file, and JSON at ``…/proof/REVISION[/PATH]``, whose keys ``docs/serve.md``
lists.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from archiver.web.lookup import find_entry, find_repository, find_revision

if TYPE_CHECKING:
    from archiver.archive.records import FileEntry, Manifest
    from archiver.archive.seals import Snapshot
    from archiver.archive.serving.proof import SnapshotProof
    from archiver.web.holdings import HeldRepository
    from archiver.web.hub_routes import Target
    from archiver.web.serving import Serving


def proof_headers(
    serving: Serving,
    repository: HeldRepository,
    snapshot: Snapshot,
    manifest: Manifest,
    entry: FileEntry,
) -> dict[str, str]:
    """Return what is told of a file beside its bytes; ASCII, whatever its path is."""
    proof = serving.proofs.snapshot(snapshot)
    file = serving.proofs.file(snapshot, manifest, entry)
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    compared = f"; digest={file.compared}" if file.compared else ""
    path = quote(file.path.encode("utf-8", "surrogatepass"))
    address = f"/api/{repository.kind}s/{repository.id}/proof/{proof.revision}/{path}"
    return {
        # RFC 9530: of the file, whatever part of it the answer has.
        "Repr-Digest": f"sha-256=:{digest}:",
        "X-Archiver-Seal": proof.seal,
        "X-Archiver-Manifest": proof.manifest,
        "X-Archiver-BLAKE3": file.blake3,
        "X-Archiver-Vouched": f"{file.vouched}{compared}",
        "X-Archiver-Proven": _proven(proof),
        "Link": f'<{address}>; rel="describedby"; type="application/json"',
    }


def _proven(proof: SnapshotProof) -> str:
    if proof.proven is None:
        return "never"
    here = next((place.id for place in proof.places if place.here), "")
    where = f'; place="{here}"' if here else ""
    return f"{proof.proven.time}; level={proof.proven.level}{where}"


def _own_name(place: str) -> str:
    """Return what an owner called a place; ``""`` where its name may tell a machine, a path or an address.

    Where nobody chose a name it is ``host:/path``, which is none of a client's business: the identity tells
    places apart.
    """
    return "" if any(sign in place for sign in "/\\:") else place


def proof_document(serving: Serving, target: Target) -> dict[str, Any]:
    """Return what is known of a revision, or of a file of it; refuse what is not held."""
    repository = find_repository(serving, target)
    revision = find_revision(repository, target)
    snapshot, file = revision.snapshot, None
    if target.path:
        opened, entry = find_entry(serving, repository, revision, target.path)
        snapshot = opened.snapshot
        file = serving.proofs.file(snapshot, opened.manifest, entry)
    proof = serving.proofs.snapshot(snapshot)
    places = [msgspec.structs.replace(each, place=_own_name(each.place)) for each in proof.places]
    proof = msgspec.structs.replace(proof, places=tuple(places))
    document = {"id": repository.id, "type": repository.kind, **msgspec.structs.asdict(proof)}
    return document | ({"file": file} if file is not None else {})
