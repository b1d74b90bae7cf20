"""What ModelScope says of a repository without listing its files: its description, its branches and tags.

Both become a :class:`~archiver.archive.watch.RepositoryState`. As its clients ask (``modelscope-hub`` 0.5.1
and ``modelscope`` 1.33; read in their source):

- ``{endpoint}/models/{id}.git`` is the repository for git (``{endpoint}/{id}.git`` of older clients), which
  lists every branch and tag with its commit at once.
- ``/api/v1/models/{id}/revisions``: ``Data.RevisionMap`` has ``Branches`` and ``Tags``, each with
  ``Revision`` (its name), and from some servers ``CommitId``.
- ``/api/v1/models/{id}`` has ``Visibility`` (1 private, 3 for who is logged in, 5 public),
  ``ProtectedMode`` (1: access is asked for, 2: it is not) and ``ReadMeContent``, the card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.watch import RepositoryState
from archiver.digest import git_blob_hasher
from archiver.upstream.modelscope.listing import (
    Info,
    data_of,
    id_of,
    licence_of,
    name_of,
    text_of,
    value_of,
)
from archiver.upstream.refs import Refs, is_ref_name, refs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archiver.upstream.http import Subject

MAIN: Final = "master"
_PRIVATE, _FOR_USERS = 1, 3
_ASKED_FOR: Final = 1


class Revision(msgspec.Struct, rename="pascal", gc=False):
    """A branch or a tag."""

    revision: str = ""
    commit_id: str | None = None


class RevisionMap(msgspec.Struct, rename="pascal"):
    """All of them."""

    branches: list[Revision] | None = None
    tags: list[Revision] | None = None


class Revisions(msgspec.Struct, rename="pascal"):
    """What ``/revisions`` lists."""

    revision_map: RevisionMap

    @property
    def unpinned(self) -> list[str]:
        """The names of which it does not say the commit, the main branch first."""
        listed = [*(self.revision_map.branches or ()), *(self.revision_map.tags or ())]
        names = {ref.revision for ref in listed if not ref.commit_id and is_ref_name(ref.revision)}
        return sorted(names, key=lambda name: (name != MAIN, name))

    def refs(self, commits: Mapping[str, str]) -> Refs:
        """Return them with their commits, as far as these are listed or among ``commits``."""

        def pairs(listed: Iterable[Revision] | None) -> list[tuple[str, str]]:
            return [
                (ref.revision, ref.commit_id or commits.get(ref.revision, ""))
                for ref in listed or ()
            ]

        refs = refs_of(pairs(self.revision_map.branches), pairs(self.revision_map.tags), MAIN)
        return refs._replace(complete=refs.complete and set(self.unpinned) <= set(commits))


def parse_revisions(body: bytes | bytearray, subject: Subject) -> Revisions:
    """Return the branches and tags; raise what the answer stands for if it lists none."""
    return data_of(body, Revisions, subject)


def state_of(
    info: Info, refs: Refs | None, head: str, subject: Subject, time: str
) -> RepositoryState:
    """Return what ModelScope says of a repository; ``refs`` is None where it did not list them.

    Raise HostileNameError if what it is called is no name.
    """
    visibility = value_of(info.visibility)
    gated = "yes" if value_of(info.protected_mode) == _ASKED_FOR else ""
    return RepositoryState(
        asked=subject.repository,
        repository=name_of(info, subject),
        endpoint=subject.endpoint,
        time=time,
        head=head,
        branches=refs.branches if refs else None,
        tags=refs.tags if refs else None,
        complete=refs is None or refs.complete,
        id=id_of(info),
        licence=licence_of(info),
        gated=gated or ("login" if visibility == _FOR_USERS else ""),
        private=visibility == _PRIVATE and not gated,
        card=_card(info),
    )


def _card(info: Info) -> str | None:
    """Return the git object id of the card as it is described; None where that is not told."""
    text = text_of(info.read_me_content)
    if not text:
        return None
    card = text.encode("utf-8", "replace")
    hasher = git_blob_hasher(len(card))
    hasher.update(card)
    return hasher.hexdigest()
