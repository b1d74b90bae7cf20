"""The model registry: all that a hub holds, and what its owner changes in it.

A name is not checked, so that a hostile one can be listed. Threads that answer requests only read, and
each look-up is a single dictionary access, so that no lock is needed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from archiver.errors import UsageError
from archiver.loopback.repository import DATASETS, Repository, default_lfs_rule

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from archiver.loopback.repository import Content, LfsRule


class Registry:
    """Repositories, old names, collections, tokens, and the files that the CDN may give out.

    ``tokens`` names the private and gated repositories that each token opens. Once there is any token,
    an unknown one is refused; before, every token counts as none. To those in ``expired`` everything is
    answered as to a stranger who asks for what is private. ``page_size`` is how many items a
    page of a listing holds, ``link_seconds`` for how long a signed address of the CDN is good. Of
    ModelScope: ``serves_git`` is whether git lists branches and tags, ``lists_commits`` whether the API
    does so with their commits, ``serves_history`` whether it lists the commits that lead to one.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.deleted: dict[str, Repository] = {}
        self.tokens: Mapping[str, Collection[str]] = {}
        self.expired: set[str] = set()
        self.page_size = 1000
        self.serves_git = True
        self.lists_commits = False
        self.serves_history = True
        self.link_seconds = 3600.0
        self.endpoint = ""
        self.cdn = ""
        self.linked: dict[str, Content] = {}
        self._created: Counter[str] = Counter()

    def create(
        self,
        repository: str,
        files: Mapping[str, bytes | Path],
        *,
        lfs: LfsRule = default_lfs_rule,
        card: Mapping[str, Any] | None = None,
        private: bool = False,
        gated: bool | str = False,
        masked: bool = False,
    ) -> str:
        """Create a repository and its first commit; return the commit's id.

        One whose name begins with ``datasets/`` is a dataset.

        ``masked`` lists 64 asterisks in place of each LFS digest.
        """
        # Another repository under a name that was taken before has another id.
        again = f" {self._created[repository]}" if self._created[repository] else ""
        self._created[repository] += 1
        internal = hashlib.sha256(f"{repository}{again}".encode("utf-8", "surrogatepass"))
        created = Repository(
            repository,
            internal.hexdigest()[:24],
            lfs,
            dict(card or {}),
            private,
            gated,
            masked=masked,
        )
        commit = created.write(files, "main", "initial commit", root=True)
        self.repositories[repository] = created
        return commit.id

    def prepare(self, repository: str) -> None:
        """Compute every digest of the newest commit, which otherwise the first listing does.

        Worth it before a client with a timeout asks about files of many gigabytes.
        """
        for entry in self.repository(repository).head().files.values():
            _ = entry.content.sha256 if entry.lfs else entry.content.git_oid

    def commit(
        self,
        repository: str,
        changes: Mapping[str, bytes | Path | None],
        *,
        branch: str = "main",
        title: str = "update",
    ) -> str:
        """Commit ``changes`` (None deletes a file); return the commit's id."""
        return self.repository(repository).write(changes, branch, title, root=False).id

    def force_push(
        self, repository: str, files: Mapping[str, bytes | Path], *, branch: str = "main"
    ) -> str:
        """Replace the branch's history by one new commit; the old commits are gone."""
        pushed = self.repository(repository)
        commit = pushed.write(files, branch, "super-squash", root=True)
        pushed.forget_unreachable()
        return commit.id

    def tag(self, repository: str, name: str, revision: str = "main") -> None:
        """Tag ``revision``."""
        tagged = self.repository(repository)
        tagged.tags[name] = tagged.head(revision).id

    def branch(self, repository: str, name: str, revision: str = "main") -> None:
        """Start a branch at ``revision``."""
        branched = self.repository(repository)
        branched.branches[name] = branched.head(revision).id

    def rename(self, old: str, new: str) -> None:
        """Rename a repository; the old name answers 307, until another repository takes it."""
        renamed = self.repository(old)
        # The new name first: a request meets the repository under one name or both, never under none.
        renamed.id = new
        self.repositories[new] = renamed
        self.renamed[old] = new
        del self.repositories[old]

    def delete(self, repository: str) -> None:
        """Delete a repository with all its commits."""
        self.deleted[repository] = self.repository(repository)
        del self.repositories[repository]

    def undelete(self, repository: str) -> None:
        """Bring a deleted repository back as it was."""
        self.repositories[repository] = self.deleted.pop(repository)

    def disable(self, repository: str, *, disabled: bool = True) -> None:
        """Disable a repository, as the Hub does on a complaint, or end that."""
        self.repository(repository).disabled = disabled

    def hide(self, repository: str, *, private: bool = True) -> None:
        """Make a repository private, or public again."""
        self.repository(repository).private = private

    def gate(self, repository: str, gated: bool | str = True) -> None:
        """Give access only to who asked for it (``auto``, ``manual``), or to everybody again."""
        self.repository(repository).gated = gated

    def describe(
        self, repository: str, card: Mapping[str, Any], readme: bytes | None = None
    ) -> str:
        """Commit another card, with ``readme`` as its text; return the commit's id."""
        described = self.repository(repository)
        described.card = dict(card)
        lines = "".join(f"{key}: {value}\n" for key, value in sorted(card.items()))
        text = readme if readme is not None else f"---\n{lines}---\n".encode()
        return self.commit(repository, {"README.md": text}, title="Update README.md")

    def untag(self, repository: str, name: str) -> None:
        """Take a tag away."""
        del self.repository(repository).tags[name]

    def drop_branch(self, repository: str, name: str) -> None:
        """Take a branch away; its commits stay, as on the Hub."""
        del self.repository(repository).branches[name]

    def visible(self) -> dict[str, dict[str, str]]:
        """Return what anybody sees now: each repository's branches and tags, each with its commit."""
        return {
            name: {**repository.tags, **repository.branches}
            for name, repository in sorted(self.repositories.items())
            if not repository.private and not repository.disabled
        }

    def collection(self, slug: str, repositories: Sequence[str], *, title: str = "") -> None:
        """Create or replace a collection of models and datasets."""
        items = [
            {
                "_id": f"{n:024x}",
                "id": name.removeprefix(DATASETS),
                "type": "dataset" if name.startswith(DATASETS) else "model",
                "position": n,
            }
            for n, name in enumerate(repositories)
        ]
        self.collections[slug] = {
            "slug": slug,
            "title": title or slug,
            "owner": {"name": slug.partition("/")[0]},
            "items": items,
            "lastUpdated": "2026-01-01T00:00:00.000Z",
            "position": 0,
            "private": False,
            "theme": "green",
            "upvotes": 0,
        }

    def claim(self, repository: str, path: str, **fields: Any) -> None:
        """Make the listing lie about a file: ``size=``, ``oid=``, ``lfs={...}``."""
        self.repository(repository).claims[path] = fields

    def list_also(self, repository: str, entry: Mapping[str, Any]) -> None:
        """Add a raw entry to the listing, such as one that names a path a second time."""
        self.repository(repository).extra_entries.append(dict(entry))

    def repository(self, name: str) -> Repository:
        """Return the repository called ``name``; raise UsageError if there is none."""
        repository = self.repositories.get(name)
        if repository is None:
            raise UsageError(f"The hub has no repository {name!r}.")
        return repository
