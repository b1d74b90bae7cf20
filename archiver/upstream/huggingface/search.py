"""Which repositories an author has: the hub's lists, page by page, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import msgspec

from archiver.errors import HostileNameError, NetworkError, UsageError
from archiver.names import repo_id_of
from archiver.upstream.http import Subject
from archiver.upstream.listing import decoded, whole_characters

if TYPE_CHECKING:
    from archiver.upstream.deadlines import ListingAllowance
    from archiver.upstream.huggingface.http import Session

REPOSITORIES_MAX: Final = 20_000
"""Repositories of one author,"""
PAGES_MAX: Final = 500
"""and pages that list them."""
_PAGE: Final = 1000


class ListedRepository(msgspec.Struct, gc=False):
    """A repository in a list. It has an id: of what has nothing, a page would hold millions."""

    id: str | None


def repositories_of(
    session: Session, author: str, kind: str, allowance: ListingAllowance
) -> tuple[str, ...]:
    """Return the repositories of one kind that an author has, as the hub spells and orders them.

    What has no name that a repository can have, or is another author's, is left out. Raise NetworkError,
    AccessError, UpstreamGoneError, and HostileNameError for what is no list, or one that is too long.
    """
    subject = Subject(author, endpoint=session.endpoint, kind="author")
    query = urlencode({"author": author, "limit": _PAGE})
    url = f"{session.endpoint}/api/{kind}s?{query}"
    names: dict[str, None] = {}
    pages: set[str] = set()
    while url:
        if url in pages:
            raise NetworkError(
                f"The hub's list of what {subject} has leads back to a page that it had before."
            )
        pages.add(url)
        listed, url = session.json(url, subject, _parsed, allowance)
        names.update(dict.fromkeys(_names(listed, author, kind)))
        if len(names) > REPOSITORIES_MAX or len(pages) > PAGES_MAX:
            raise HostileNameError(
                f"The hub lists more than {REPOSITORIES_MAX:,} repositories or {PAGES_MAX:,} pages "
                f"of {subject}."
            )
    return tuple(names)


def _parsed(body: bytes | bytearray, subject: Subject) -> list[ListedRepository]:
    nonsense = HostileNameError(f"The hub's answer about {subject} is no list of repositories.")
    try:
        return decoded(body, list[ListedRepository], subject, nonsense)
    except msgspec.DecodeError:
        return decoded(whole_characters(body), list[ListedRepository], subject, nonsense)


def _names(listed: list[ListedRepository], author: str, kind: str) -> list[str]:
    names: list[str] = []
    for repository in listed:
        name = repository.id or ""
        if name.casefold().startswith(f"{author.casefold()}/"):
            try:
                names.append(repo_id_of(name, kind=kind))
            except UsageError:
                continue
    return names
