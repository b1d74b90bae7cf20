"""Names at the seam: a value of one of these types has been checked to be safe to use as a name.

What is never legitimate (``..``, an absolute path, a control character) is refused on the way in and out.
What only some filesystems cannot hold (twins by case, ``CON``, ``a:b``) is kept: refusing such a file
would lose it. ``unportable`` names it, and each restore finds out for itself.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NewType

from archiver.errors import HostileNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

RepoPath = NewType("RepoPath", str)
"""A relative path that may be written below a folder (docs/format.md section 6.3)."""
RepoId = NewType("RepoId", str)
"""A repository's name as upstream writes it: ``Org/Name`` or ``name``."""
Commit = NewType("Commit", str)
"""40 or 64 lowercase hex digits: the commit that a revision is."""

MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
MAX_PROBLEMS = 20
"""How many problems of one listing are spelled out; the others are only counted."""

_SHOWN = 200
_NOT_EVERYWHERE = re.compile(r'[<>:"|?*]|[. ](?:/|\Z)')
"""What FAT, exFAT and NTFS cannot have in a name, or at the end of one."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?\Z")
_NOT_IN_SLUG = re.compile(r"[^a-z0-9._-]")


def as_repo_path(text: str) -> RepoPath:
    """Return ``text`` as a path that may be written; raise HostileNameError that says why it may not."""
    problem = _problem(text)
    if problem:
        raise HostileNameError(f"The path {_shown(text)} {problem}, so it may not be written.")
    return RepoPath(text)


def check_paths(paths: Iterable[str], *, folder: str = "") -> list[RepoPath]:
    """Return all ``paths`` of one revision, in the same order: each possible, alone and together.

    ``folder`` is the folder that holds them, for messages; ``""`` if they come from upstream.

    Raises:
        HostileNameError: Names every problem, or the first 20 and how many more there are.
    """
    listed = list(paths)
    problems = path_problems(listed)
    if not problems:
        return [RepoPath(path) for path in listed]
    more = len(problems) - MAX_PROBLEMS
    listing = "; ".join(problems[:MAX_PROBLEMS]) + (f"; and {more:,} more" if more > 0 else "")
    if folder:
        raise HostileNameError(
            f"{_shown(folder)} has names that could not be written elsewhere "
            f"({len(problems):,}): {listing}.",
            hint="Nothing was taken in. Rename these files, or move them away.",
        )
    raise HostileNameError(
        f"Paths from upstream may not be written ({len(problems):,}): {listing}.",
        hint="Nothing was fetched. Ask the publisher to rename these files.",
    )


def path_problems(listed: Sequence[str]) -> list[str]:
    """Return what is never legitimate in the paths of one revision, a part of a sentence each.

    Takes time in proportion to the listing, however many parts a path has.
    """
    problems = [f"{_shown(path)} {why}" for path in listed if (why := _problem(path))]
    possible = [path for path in listed if not _problem(path)] if problems else listed
    return problems + [f"{_shown(path)} {why}" for path, why, _ in _clashes(possible, str)]


def unportable(paths: Iterable[str]) -> dict[str, str]:
    """Return the paths of one revision that some filesystems cannot hold, and why, a part of a sentence.

    They are kept in the archive. Of twins the later one is named, with the one that it is a twin of.
    """
    listed = list(paths)
    problems = {
        path: "has characters that some filesystems cannot hold"
        for path in listed
        if _NOT_EVERYWHERE.search(path)
    }
    where = "where case and forms of Unicode do not count"
    for path, why, below in _clashes(listed, _folded):
        problems.setdefault(path, f"{why}, {where}")
        if below:
            problems.setdefault(below, f"lies below the file {_shown(path)}, {where}")
    return problems


def _problem(path: str) -> str:
    """Return what is wrong with one path by itself, as the rest of a sentence; ``""`` if nothing is."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    if not path:
        return "is empty"
    if size > MAX_PATH_BYTES:
        return f"has {size:,} bytes (at most {MAX_PATH_BYTES:,})"
    if path.startswith("/"):
        return "is absolute"
    if "\\" in path or _CONTROL.search(path):
        return "holds a backslash or a control character"
    return next((why for part in path.split("/") if (why := _part_problem(part))), "")


def _part_problem(part: str) -> str:
    if part in {"", ".", ".."}:
        return f"has the part {part!r}"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"has a part of more than {MAX_PART_BYTES} bytes"
    return ""


def _clashes(paths: Iterable[str], same: Callable[[str], str]) -> Iterator[tuple[str, str, str]]:
    """Yield paths that cannot stand beside another, where paths with the ``same`` key are one.

    Each with why, and with the path that lies below it if that is the reason.
    """
    firsts: dict[str, str] = {}
    for path in paths:
        key = same(path)
        if key not in firsts:
            firsts[key] = path
        else:
            first = firsts[key]
            why = "is listed twice" if first == path else f"is the same name as {_shown(first)}"
            yield path, why, ""
    # No path holds a NUL. With one for each slash, what lies below a file comes right after it.
    rows = sorted((key.replace("/", "\0"), path) for key, path in firsts.items())
    above: list[tuple[str, str]] = []
    for key, path in rows:
        while above and not key.startswith(above[-1][0]):
            above.pop()
        if above:
            yield above[-1][1], f"is a file and also the folder of {_shown(path)}", path
        above.append((f"{key}\0", path))


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    folded = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", folded)  # folding can take letters apart


def as_repo_id(text: str) -> RepoId:
    """Return ``text`` as a repository's name, by the Hub's rules; raise UsageError if it is none.

    Each half has 1 to 96 of the characters ``A-Z a-z 0-9 . _ -``, begins and ends with neither
    ``.`` nor ``-``, and holds neither ``..`` nor ``--``; the whole does not end with ``.git``.
    """
    parts = text.split("/", 2)
    fine = len(parts) in {1, 2} and all(map(_REPO_PART.match, parts))
    if not fine or ".." in text or "--" in text or text.endswith(".git"):
        raise UsageError(
            f"{_shown(text)} is not the name of a repository.",
            hint="Write it as upstream does, for example Qwen/Qwen3.5-4B.",
        )
    return RepoId(text)


def slug(repo_id: RepoId) -> str:
    """Return the folder of a repository in an archive: ``org/name`` (docs/format.md section 2)."""
    org, slash, name = repo_id.partition("/")
    return f"{_slugged(org)}/{_slugged(name)}" if slash else f"_/{_slugged(org)}"


def _slugged(half: str) -> str:
    safe = _NOT_IN_SLUG.sub("_", half.lower())
    return "_" + safe[1:] if safe.startswith(".") else safe


def as_commit(text: str) -> Commit:
    """Return ``text`` as a commit; raise HostileNameError if it is not 40 or 64 lowercase hex digits."""
    if not _COMMIT.match(text):
        raise HostileNameError(f"{_shown(text)} is not a commit of 40 or 64 lowercase hex digits.")
    return Commit(text)


def _shown(text: str) -> str:
    """Return ``text`` quoted, bounded, and with whatever is not printable escaped."""
    return repr(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
