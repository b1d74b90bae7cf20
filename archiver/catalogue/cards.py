"""Model cards in the catalogue: what a held README.md says of licence, tags, and the model.

A card comes from upstream and is hostile: bounded, and never more than searched and shown. What the file
itself says counts; the hub's own word for the licence is in ``manifests``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import insert, select

from archiver.catalogue import queries
from archiver.catalogue.schema import Card, FileRow, ManifestRow
from archiver.errors import ArchiverError, DamageError
from archiver.front_matter import README, README_MAX, TERM_MAX, parse_card, texts_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from archiver.archive.archive import Archive
    from archiver.catalogue.database import Catalogue
    from archiver.catalogue.queries import Location

TEXT_MAX: Final = 64 << 10
"""Characters of the text below the front matter that are kept,"""
TERMS_MAX: Final = 256
"""and so many tags, languages and the like of a card."""
_TERMS: Final = ("tags", "language", "base_model", "pipeline_tag", "library_name", "datasets")
_HEADING: Final = re.compile(r"^#[ \t]+(.+?)[ \t#]*$", re.MULTILINE)


class CardFacts(NamedTuple):
    """What a card says; ``terms`` are its tags, languages, base models and the like."""

    licence: str = ""
    title: str = ""
    terms: tuple[str, ...] = ()
    text: str = ""


def add_cards(archive: Archive, catalogue: Catalogue) -> int:
    """Read the card of every manifest of which there is none yet; return how many.

    One that cannot be read is looked at again the next time.
    """
    added = 0
    for manifest, file in catalogue.read(_without_card):
        facts: CardFacts | None = CardFacts()
        if file is not None and file[1] <= README_MAX:
            facts = _read(archive, catalogue, *file)
        if facts is not None:
            added += _add(catalogue, manifest, facts)
    return added


def _without_card(connection: Connection) -> list[tuple[int, tuple[str, int] | None]]:
    """Return manifests without a card, each with digest and size of its README.md if it has one."""
    query = (
        select(ManifestRow.id, FileRow.blake3, FileRow.size)
        .outerjoin(FileRow, (FileRow.manifest_id == ManifestRow.id) & (FileRow.path == README))
        .where(ManifestRow.id.not_in(select(Card.manifest_id)))
        .order_by(ManifestRow.id)
    )
    rows = connection.execute(query)
    return [(number, None if size is None else (blake3, size)) for number, blake3, size in rows]


def _read(archive: Archive, catalogue: Catalogue, digest: str, size: int) -> CardFacts | None:
    """Return what a README.md says, which is one object of its own digest; None if it cannot be read."""
    if not size:
        return CardFacts()
    for location in queries.locate(catalogue, [digest]).get(digest, []):
        data = _object(archive, digest, size, location)
        if data is not None:
            return card_facts(data)
    return None


def _object(archive: Archive, digest: str, size: int, location: Location) -> bytes | None:
    # A search that has no new card to read does without the arrays.
    import numpy as np  # noqa: PLC0415

    from archiver.archive.packs.format import IndexEntry  # noqa: PLC0415

    out = np.empty(size, np.uint8)
    entry = IndexEntry(digest, location.offset, location.stored, location.size, location.codec)
    try:
        archive.pack(location.pack).read(entry, size, out)
    except (ArchiverError, FileNotFoundError):
        return None
    return out.tobytes()


def _add(catalogue: Catalogue, manifest: int, facts: CardFacts) -> bool:
    row = {
        "manifest_id": manifest,
        "licence": facts.licence,
        "title": facts.title,
        "terms": "\n".join(facts.terms),
        "text": facts.text,
    }

    def put(connection: Connection) -> bool:
        # Another process may have been quicker, or have taken the manifest out.
        known = select(Card.manifest_id).where(Card.manifest_id == manifest)
        if connection.scalar(known) is not None:
            return False
        connection.execute(insert(Card), [row])
        return True

    try:
        return catalogue.write(put)
    except DamageError:
        return False


# ---- the text of a card


def card_facts(data: bytes) -> CardFacts:
    """Return what a card says; never an error, whatever is in it."""
    fields, body = parse_card(data)
    heading = _HEADING.search(body[:TEXT_MAX])
    licences = [*texts_of(fields.get("license_name")), *texts_of(fields.get("license"))]
    terms = [term for key in _TERMS for term in texts_of(fields.get(key))]
    return CardFacts(
        licence=licences[0] if licences else "",
        title=heading[1][:TERM_MAX] if heading else "",
        terms=tuple(dict.fromkeys(terms))[:TERMS_MAX],
        text=body.strip()[:TEXT_MAX],
    )
