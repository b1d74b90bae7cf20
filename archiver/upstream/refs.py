"""Branches and tags: how many of what a hub lists are looked at, and git's own list of them.

Git's list is what ``git ls-remote`` reads (gitprotocol-http, "Smart Service git-upload-pack"): one answer
has every branch and tag, each with its commit. A line has its length before it, in four hex digits::

    001e# service=git-upload-pack
    0000
    …<commit> HEAD NUL what the server can do
    …<commit> refs/heads/master
    …<object> refs/tags/v1
    …<commit> refs/tags/v1^{}           the commit of a tag that is an object itself
    0000
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.watch import BRANCHES_MAX, NAME_MAX, TAGS_MAX
from archiver.digest import is_git_oid
from archiver.errors import HostileNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.upstream.http import Subject

LARGEST_REFS: Final = 4 * 1024 * 1024
"""Bytes of the branches and tags, or of a page of commits."""
ADVERTISEMENT: Final = "application/x-git-upload-pack-advertisement"
SERVICE: Final = "info/refs?service=git-upload-pack"
"""What comes after a repository's address."""
_FIRST: Final = b"# service=git-upload-pack"
_HEADS, _TAGS, _PEELED = "refs/heads/", "refs/tags/", "^{}"
_LENGTH: Final = re.compile(rb"[0-9a-fA-F]{4}")
_DIGITS: Final = 4
_REF_NAME: Final = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]+")
"""A name as git allows it (git-check-ref-format), by its characters."""


class Refs(NamedTuple):
    """Name -> commit of branches and of tags; ``complete``: there are no others."""

    branches: dict[str, str]
    tags: dict[str, str]
    complete: bool = True

    def find(self, name: str) -> str:
        """Return the commit of a branch, or else of a tag, ``""`` if there is neither of that name."""
        return self.branches.get(name) or self.tags.get(name, "")


def refs_of(
    branches: Iterable[tuple[str, str]], tags: Iterable[tuple[str, str]], main: str
) -> Refs:
    """Return the first by name of what is listed, without what git allows to no branch and no tag.

    The branch ``main`` is always looked at.
    """
    branches, tags = list(branches), list(tags)
    complete = len(branches) <= BRANCHES_MAX and len(tags) <= TAGS_MAX
    return Refs(_first(branches, BRANCHES_MAX, main), _first(tags, TAGS_MAX, ""), complete)


def is_ref_name(name: str) -> bool:
    """Return whether a branch or a tag that is looked at may have this name."""
    fits = len(name.encode("utf-8", "replace")) <= NAME_MAX
    return fits and bool(_REF_NAME.fullmatch(name))


def _first(refs: Iterable[tuple[str, str]], most: int, main: str) -> dict[str, str]:
    fine = {name: commit for name, commit in refs if is_ref_name(name) and is_git_oid(commit)}
    order = sorted(fine, key=lambda name: (name != main, name))
    return {name: fine[name] for name in order[:most]}


def parse_advertisement(body: bytes | bytearray, subject: Subject, main: str) -> Refs:
    """Return the branches and tags in git's list; raise HostileNameError if it is none."""
    lines = _lines(bytes(body), subject)
    if next(lines, b"").rstrip(b"\n") != _FIRST:
        raise _nonsense(subject)
    branches: dict[str, str] = {}
    tags: dict[str, str] = {}
    peeled: dict[str, str] = {}
    for line in lines:
        oid, space, name = line.partition(b"\x00")[0].rstrip(b"\n").partition(b" ")
        ref, commit = name.decode(errors="replace"), oid.decode(errors="replace")
        if not space:
            raise _nonsense(subject)
        if ref.startswith(_HEADS):
            branches[ref.removeprefix(_HEADS)] = commit
        elif ref.startswith(_TAGS):
            kept = peeled if ref.endswith(_PEELED) else tags
            kept[ref.removeprefix(_TAGS).removesuffix(_PEELED)] = commit
    return refs_of(branches.items(), (tags | peeled).items(), main)


def _lines(body: bytes, subject: Subject) -> Iterator[bytes]:
    """Yield the lines without their lengths, less those that are marks only."""
    at = 0
    while at < len(body):
        digits = body[at : at + _DIGITS]
        if not _LENGTH.fullmatch(digits):
            raise _nonsense(subject)
        length = int(digits, 16)
        end = at + max(length, _DIGITS)
        # 0000 ends a list; what is no longer than its length is a line of nothing, and no ref.
        if end > len(body):
            raise _nonsense(subject)
        if length:
            yield body[at + _DIGITS : end]
        at = end


def _nonsense(subject: Subject) -> HostileNameError:
    return HostileNameError(
        f"What {subject.endpoint} sent is no list of the branches of {subject}."
    )
