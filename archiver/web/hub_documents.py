"""The Hub's JSON for what is held: repositories, trees, branches, commits, collections."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from archiver.web.holdings import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.records import FileEntry, FileFacts
    from archiver.web.holdings import Catalog, HeldRepository, Revision

Json = dict[str, Any]

_TAGS_MAX: Final = 200
_TAG_MAX: Final = 200
_SLUG_MAX: Final = 60


# ---- files


def is_lfs(file: FileFacts | FileEntry) -> bool:
    """Return whether clients know the file by its SHA-256, and not by the id of its git blob."""
    return file.lfs or not file.oid


def etag(file: FileFacts | FileEntry) -> str:
    """Return the ETag of a file as the Hub gives it, without quotes."""
    return file.sha256 if is_lfs(file) else file.oid


def lfs_pointer(file: FileFacts | FileEntry) -> bytes:
    """Return what git has in place of a file that lies in LFS."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size}\n"
    ).encode()


def file_entry(file: FileFacts) -> Json:
    """Return a file as a tree lists it."""
    listed: Json = {"type": "file", "path": file.path, "size": file.size}
    if not is_lfs(file):
        return {**listed, "oid": file.oid}
    pointer = lfs_pointer(file)
    blob = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest()
    lfs = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer)}
    return {**listed, "oid": file.oid or blob, "lfs": lfs}


def sibling(file: FileFacts, *, blobs: bool) -> Json:
    """Return a file as the description of a repository lists it."""
    if not blobs:
        return {"rfilename": file.path}
    entry = file_entry(file)
    told: Json = {"rfilename": file.path, "size": file.size, "blobId": entry["oid"]}
    if "lfs" in entry:
        lfs = entry["lfs"]
        told["lfs"] = {**lfs, "sha256": lfs["oid"]}
    return told


def tree(files: Sequence[FileFacts], commit: str, under: str, *, recursive: bool) -> list[Json]:
    """Return the entries below the folder ``under`` (``""`` is the root), folders included, by path."""
    prefix = f"{under}/" if under else ""
    folders: set[str] = set()
    entries: list[Json] = []
    for file in files:
        if not file.path.startswith(prefix):
            continue
        *parents, _ = file.path.removeprefix(prefix).split("/")
        if recursive or not parents:
            entries.append(file_entry(file))
        depth = len(parents) if recursive else min(1, len(parents))
        folders |= {prefix + "/".join(parents[: n + 1]) for n in range(depth)}
    entries += [folder_entry(commit, path) for path in folders]
    return sorted(entries, key=lambda entry: str(entry["path"]))


def folder_entry(commit: str, path: str) -> Json:
    """Return a folder as a tree lists it.

    Its id is none of git's, which would need every file's blob; it changes when the commit does.
    """
    name = f"{commit}/{path}".encode("utf-8", "surrogatepass")
    oid = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    return {"type": "directory", "path": path, "oid": oid, "size": 0}


def path_entries(files: Sequence[FileFacts], commit: str, paths: Iterable[str]) -> list[Json]:
    """Return the entries of those paths that there are, files and folders, in the order of the paths."""
    by_path = {file.path: file for file in files}
    folders = {file.path[:at] for file in files for at, sign in enumerate(file.path) if sign == "/"}
    entries: list[Json] = []
    for path in paths:
        if path in by_path:
            entries.append(file_entry(by_path[path]))
        elif path in folders:
            entries.append(folder_entry(commit, path))
    return entries


def expanded(entry: Json, revision: Revision) -> Json:
    """Return an entry with its last commit: the revision itself, for the archive knows of no other."""
    return {**entry, "lastCommit": _commit(revision), "securityFileStatus": None}


# ---- repositories


def repository_info(repository: HeldRepository, revision: Revision, card: Json | None) -> Json:
    """Return a repository at one revision, without its files; ``card`` is what its card declares."""
    seal = revision.snapshot.seal
    info: Json = {
        "_id": _object_id(repository.kind, repository.id),
        "id": repository.id,
        **({"modelId": repository.id} if repository.kind == "model" else {}),
        **({"author": repository.author} if repository.author else {}),
        "sha": revision.commit,
        "lastModified": revision.time,
        "createdAt": min(each.time for each in repository.revisions.values()),
        "private": False,
        "gated": repository.attributes.get("gating", "") or False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "usedStorage": seal.totals.bytes,
        "tags": _tags(card or {}),
    }
    if card is None:
        return info
    info["cardData"] = card
    for key in ("library_name", "pipeline_tag"):
        if isinstance(card.get(key), str) and repository.kind == "model":
            info[key] = card[key]
    return info


def _tags(card: Json) -> list[str]:
    """Return the Hub's tags that a card declares, as far as they are texts."""
    tags: list[str] = []
    for key, prefix in (
        ("library_name", ""),
        ("pipeline_tag", ""),
        ("tags", ""),
        ("language", ""),
        ("datasets", "dataset:"),
        ("base_model", "base_model:"),
        ("license", "license:"),
    ):
        value = card.get(key)
        listed = value if isinstance(value, list) else [value]
        tags += [prefix + e for e in listed if isinstance(e, str) and len(e) <= _TAG_MAX]
    return list(dict.fromkeys(tags))[:_TAGS_MAX]


def _object_id(*names: str) -> str:
    """Return 24 hex digits that are the same for the same names, as the Hub's own ids look."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:24]


def refs(repository: HeldRepository) -> Json:
    """Return the branches and tags of a repository."""
    return {
        "branches": [_ref("heads", *item) for item in sorted(repository.branches.items())],
        "tags": [_ref("tags", *item) for item in sorted(repository.tags.items())],
        "converts": [],
        "pullRequests": [],
    }


def _ref(kind: str, name: str, commit: str) -> Json:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


def commits(repository: HeldRepository, revision: Revision) -> list[Json]:
    """Return the held revisions that are not newer than this one, the newest first, it before all."""
    older = [
        each
        for each in repository.revisions.values()
        if each.time <= revision.time and each.commit != revision.commit
    ]
    return [
        {**_commit(each), "message": "", "authors": [], "formatted": {"title": "", "message": ""}}
        for each in (revision, *older)
    ]


def _commit(revision: Revision) -> Json:
    since = revision.snapshot.seal.sealed[:10]
    title = f"{revision.commit[:12]}, " + (f"in the archive since {since}" if since else "unsealed")
    return {"id": revision.commit, "title": title, "date": revision.time}


# ---- collections

PLANS: Final = "archive"
"""Whose the collections are that stand for plans."""


def collections(catalog: Catalog) -> list[Json]:
    """Return a collection for each plan, of what is held of it, and for each author of what is held."""
    by_author: dict[str, list[HeldRepository]] = {}
    for kind in KINDS:
        for repository in catalog.of_kind(kind):
            if repository.author:
                by_author.setdefault(repository.author, []).append(repository)
    plans = [
        _collection(PLANS, plan, f"The plan {plan}", wanted)
        for plan, wanted in catalog.plans.items()
    ]
    authors = [
        _collection(author, "archived", f"{author} in this archive", held)
        for author, held in sorted(by_author.items())
    ]
    return [{**each, "position": at} for at, each in enumerate(plans + authors)]


def _collection(owner: str, name: str, title: str, held: Sequence[HeldRepository]) -> Json:
    ending = _object_id("collection", owner, name)
    plain = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in name)
    return {
        "slug": f"{owner}/{plain.lower()[:_SLUG_MAX]}-{ending}",
        "title": title,
        "owner": owner,
        "items": [
            {"_id": _object_id("item", each.kind, each.id), "id": each.id, "type": each.kind}
            | {"position": at}
            for at, each in enumerate(held)
        ],
        "lastUpdated": max(revision.time for each in held for revision in each.revisions.values()),
        "private": False,
        "theme": "green",
        "upvotes": 0,
        "gating": False,
    }
