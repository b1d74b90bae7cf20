"""What a request is about, found among what is held, or refused as the Hub does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.names import HUGGING_FACE
from archiver.web.holdings import KINDS
from archiver.web.refusals import Refusal

if TYPE_CHECKING:
    from archiver.archive.records import FileEntry
    from archiver.archive.serving.served_file import ServedSnapshot
    from archiver.web.holdings import HeldRepository, Revision
    from archiver.web.hub_routes import Target
    from archiver.web.serving import Serving


def find_repository(serving: Serving, target: Target) -> HeldRepository:
    """Return the repository that is asked for; refuse one that is not held, and say what may be meant."""
    catalog = serving.holdings.catalog()
    found = catalog.find(target.kind, target.repository)
    if found is not None:
        return found
    message = f"{target.repository} is not in this archive."
    other = next(kind for kind in KINDS if kind != target.kind)
    if catalog.find(other, target.repository) is not None:
        message += f" It holds a {other} of this name."
    else:
        elsewhere = [
            each.id
            for each in catalog.of_kind(target.kind)
            if each.source.hub != HUGGING_FACE
            and each.source.name.casefold() == target.repository.casefold()
        ]
        if elsewhere:
            message += f" Of another hub it holds {', '.join(elsewhere)}."
    raise Refusal(404, message, "RepoNotFound")


def find_revision(repository: HeldRepository, target: Target) -> Revision:
    """Return the revision that is asked for; refuse one that is not held."""
    found = repository.find(target.revision)
    if found is None:
        raise Refusal(
            404,
            f"Revision {target.revision} of {repository.id} is not in this archive; "
            f"it holds {len(repository.revisions):,}, the newest of them "
            f"{next(iter(repository.revisions))}.",
            "RevisionNotFound",
        )
    return found


def find_entry(
    serving: Serving, repository: HeldRepository, revision: Revision, path: str
) -> tuple[ServedSnapshot, FileEntry]:
    """Return a file of a revision and the snapshot that has it, opened; refuse what is not held."""
    for snapshot in revision.snapshots:
        opened = serving.snapshots.get(snapshot)
        entry = opened.entries.get(path)
        if entry is not None:
            return opened, entry
    raise missing_file(repository, revision, path)


def missing_file(repository: HeldRepository, revision: Revision, path: str) -> Refusal:
    """Return the refusal of a file that a snapshot does not have."""
    message = f"{path} is not in {repository.id}@{revision.commit[:12]}."
    if not revision.snapshot.seal.selection.whole:
        message += " Only some files of this revision were archived; upstream may have had more."
    headers = {"X-Repo-Commit": revision.commit}
    return Refusal(404, message, "EntryNotFound", headers)
