"""The Hub's JSON for repositories, trees and commits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from archiver.loopback.repository import lfs_pointer, lfs_pointer_oid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.loopback.repository import Commit, Entry, Repository

Json = dict[str, Any]

MASK = "*" * 64
"""What the Hub lists in place of a digest that the caller may not see."""


def repository_info(repository: Repository, commit: Commit) -> Json:
    """Return a repository at one commit, without its files."""
    owner = repository.name.rpartition("/")[0]
    licence = repository.card.get("license")
    return {
        "_id": repository.internal_id,
        "id": repository.name,
        **({"modelId": repository.name} if repository.kind == "model" else {}),
        **({"author": owner} if owner else {}),
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": "2026-01-01T00:00:00.000Z",
        "private": repository.private,
        "gated": "auto" if repository.gated is True else repository.gated,
        "disabled": repository.disabled,
        "downloads": 0,
        "likes": 0,
        "tags": [f"license:{licence}"] if licence else [],
        "cardData": repository.card,
    }


def siblings(repository: Repository, commit: Commit, *, blobs: bool, masked: bool) -> list[Json]:
    """Return the files of a commit as ``repository_info`` lists them, with digests when ``blobs``."""
    if not blobs:
        return [{"rfilename": path} for path in sorted(commit.files)]
    return [_sibling(entry) for entry in _file_entries(repository, commit, masked=masked)]


def _sibling(entry: Json) -> Json:
    sibling = {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"]}
    if "lfs" in entry:
        lfs = dict(entry["lfs"])
        lfs["sha256"] = lfs.pop("oid")
        sibling["lfs"] = lfs
    return sibling


def tree(
    repository: Repository, commit: Commit, under: str, *, recursive: bool, masked: bool
) -> list[Json]:
    """Return the entries below the folder ``under`` (``""`` is the root), folders included."""
    prefix = f"{under}/" if under else ""
    entries = [
        entry
        for entry in _file_entries(repository, commit, masked=masked)
        if entry["path"].startswith(prefix)
        and (recursive or "/" not in entry["path"].removeprefix(prefix))
    ]
    folders = [_folder(commit, path) for path in _folders(commit, prefix, recursive=recursive)]
    return sorted(folders + entries, key=lambda entry: str(entry["path"]))


def path_info(repository: Repository, commit: Commit, path: str, *, masked: bool) -> Json | None:
    """Return the entry of one file or folder; None when the commit has no such path."""
    if path in commit.files:
        return _file_entry(repository, path, commit.files[path], masked=masked)
    if any(name.startswith(f"{path}/") for name in commit.files):
        return _folder(commit, path)
    return None


def expanded(entry: Json, commit: Commit) -> Json:
    """Return ``entry`` with its last commit, as ``expand=true`` asks for."""
    last = {"id": commit.id, "title": commit.title, "date": commit.date}
    return {**entry, "lastCommit": last, "securityFileStatus": None}


def history(commit: Commit | None) -> Iterator[Json]:
    """Yield the commits that lead to ``commit``, newest first."""
    while commit is not None:
        yield {
            "id": commit.id,
            "title": commit.title,
            "message": "",
            "date": commit.date,
            "authors": [{"user": "loopback", "avatar": ""}],
        }
        commit = commit.parent


def refs(repository: Repository) -> Json:
    """Return the branches and tags of a repository."""
    return {
        "branches": [_ref("heads", *item) for item in repository.branches.items()],
        "tags": [_ref("tags", *item) for item in repository.tags.items()],
        "converts": [],
        "pullRequests": [],
    }


def _ref(kind: str, name: str, commit: str) -> Json:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


def _file_entries(repository: Repository, commit: Commit, *, masked: bool) -> list[Json]:
    entries = [
        _file_entry(repository, path, entry, masked=masked) for path, entry in commit.files.items()
    ]
    return entries + repository.extra_entries


def _file_entry(repository: Repository, path: str, entry: Entry, *, masked: bool) -> Json:
    content = entry.content
    listed: Json = {"type": "file", "path": path, "size": content.size}
    if not entry.lfs:
        return {**listed, "oid": content.git_oid} | repository.claims.get(path, {})
    lfs = {
        "oid": MASK if masked else content.sha256,
        "size": content.size,
        "pointerSize": len(lfs_pointer(content)),
    }
    return {**listed, "oid": lfs_pointer_oid(content), "lfs": lfs} | repository.claims.get(path, {})


def _folders(commit: Commit, prefix: str, *, recursive: bool) -> set[str]:
    folders: set[str] = set()
    for path in commit.files:
        if path.startswith(prefix):
            parts = path.removeprefix(prefix).split("/")[:-1]
            depth = len(parts) if recursive else min(1, len(parts))
            folders |= {prefix + "/".join(parts[: n + 1]) for n in range(depth)}
    return {path for path in folders if path.strip("/")}


def _folder(commit: Commit, path: str) -> Json:
    # Not git's own tree id, which would need every file's digest; it changes when the commit does.
    oid = hashlib.sha1(f"{commit.id}/{path}".encode("utf-8", "surrogatepass")).hexdigest()  # noqa: S324
    return {"type": "directory", "path": path, "oid": oid, "size": 0}
