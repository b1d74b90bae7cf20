"""Which repositories an author has at ModelScope, page by page, within bounds.

``/openapi/v1/models?owner=&page_number=&page_size=`` (``datasets`` likewise), as ``modelscope-hub`` 0.5.1
asks it: ``data.models``, each with ``id`` (``Owner/Name``), and ``data.total_count``. A page has 50 at
most, and the pages end after 3,000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import msgspec

from archiver.errors import HostileNameError, MismatchError, UsageError
from archiver.names import MODELSCOPE, repo_id_of
from archiver.upstream.http import Subject
from archiver.upstream.listing import decoded, whole_characters
from archiver.upstream.modelscope.http import ENDPOINT_VARIABLE

if TYPE_CHECKING:
    from archiver.upstream.deadlines import ListingAllowance
    from archiver.upstream.modelscope.http import Session

LISTED_MAX: Final = 3000
"""Repositories of an author, after which its list ends."""
_PAGE: Final = 50


class ListedRepository(msgspec.Struct, gc=False):
    """A repository in a list. It has an id: of what has nothing, a page would hold millions."""

    id: str | None


class ListedPage(msgspec.Struct):
    """A page of a list; only one kind of repositories is in it."""

    models: list[ListedRepository] | None = None
    datasets: list[ListedRepository] | None = None
    total_count: int = 0


class OpenAnswer(msgspec.Struct):
    """An answer of the open API."""

    data: ListedPage
    success: bool = True


def repositories_of(
    session: Session, owner: str, kind: str, allowance: ListingAllowance
) -> tuple[str, ...]:
    """Return the repositories of one kind that an author has, as ModelScope spells and orders them.

    What has no name that a repository can have, or is another author's, is left out. Raise MismatchError if
    there are more than are listed, NetworkError, AccessError, UpstreamGoneError, and HostileNameError for
    what is no list.
    """
    subject = Subject(owner, endpoint=session.endpoint, kind="author", variable=ENDPOINT_VARIABLE)
    names: dict[str, None] = {}
    for number in range(1, LISTED_MAX // _PAGE + 1):
        query = urlencode({"owner": owner, "page_number": number, "page_size": _PAGE})
        url = f"{session.endpoint}/openapi/v1/{kind}s?{query}"
        page, _ = session.json(url, subject, parse_page, allowance)
        if page.total_count > LISTED_MAX:
            raise MismatchError(
                f"{subject} has {page.total_count:,} {kind}s, and ModelScope lists no more than "
                f"{LISTED_MAX:,} of them.",
                hint="Name each in the plan by itself.",
            )
        listed = page.models or page.datasets or []
        names.update(dict.fromkeys(_names(listed, owner, kind)))
        if not listed or number * _PAGE >= page.total_count:
            break
    return tuple(names)


def parse_page(body: bytes | bytearray, subject: Subject) -> ListedPage:
    """Return a page of a list; raise HostileNameError if it is none."""
    nonsense = HostileNameError(f"ModelScope's answer about {subject} is no list of repositories.")
    try:
        answer = decoded(body, OpenAnswer, subject, nonsense)
    except msgspec.DecodeError:
        answer = decoded(whole_characters(body), OpenAnswer, subject, nonsense)
    if not answer.success:
        raise nonsense
    return answer.data


def _names(listed: list[ListedRepository], owner: str, kind: str) -> list[str]:
    names: list[str] = []
    for repository in listed:
        name = repository.id or ""
        if name.casefold().startswith(f"{owner.casefold()}/"):
            try:
                names.append(repo_id_of(name, hub=MODELSCOPE, kind=kind))
            except UsageError:
                continue
    return names
