"""Names at the seam: a value of one of these types has been checked to be safe to use as a name.

What is never legitimate (``..``, an absolute path, a NUL) is refused on the way in and out. What only some
filesystems cannot hold (twins by case, ``a:b``, a newline) is kept: refusing such a file would lose it.
``unportable`` names it, each restore finds out for itself, and ``portable_paths`` says what it may be
called instead.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, NewType

from archiver.errors import HostileNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

RepoPath = NewType("RepoPath", str)
"""A relative path that may be written below a folder (docs/format.md section 6.3)."""
RepoId = NewType("RepoId", str)
"""A repository in its one spelling: ``[hub:][datasets/]Org/Name`` (``RepositoryName``)."""
Commit = NewType("Commit", str)
"""40 or 64 lowercase hex digits: the commit that a revision is."""

HUGGING_FACE: Final = "huggingface"
MODELSCOPE: Final = "modelscope"
FOLDER: Final = "folder"
"""The hub of what never came from one."""
HUBS: Final = (HUGGING_FACE, MODELSCOPE, FOLDER)
TITLES: Final = {HUGGING_FACE: "Hugging Face", MODELSCOPE: "ModelScope"}
"""The hubs that are fetched from, and what they are called in sentences."""
"""Those that this version knows of; it reads what others write of further ones."""
MODEL: Final = "model"
DATASET: Final = "dataset"
TYPES: Final = (MODEL, DATASET)

MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
MAX_PROBLEMS = 20
"""How many problems of one listing are spelled out; the others are only counted."""

_SHOWN = 200
_NOT_EVERYWHERE = re.compile(r'[\x00-\x1f\x7f-\x9f\\<>:"|?*]|[. ](?:/|\Z)')
"""What FAT, exFAT and NTFS cannot have in a name, or at the end of one."""
_ESCAPED = re.compile(r'[\x00-\x1f\x7f-\x9f\\<>:"|?*%]|[. ]+\Z')
"""The same in one part of a path, and what marks an escape."""
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_HUB = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
_TYPE = re.compile(r"([a-z][a-z0-9]{0,29})s\Z")
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?\Z")


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
    if "\0" in path:
        return "holds a NUL"
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


def portable_paths(paths: Iterable[str]) -> dict[str, str]:
    """Return another name for each path of one revision that some filesystems cannot hold.

    ``paths`` are all of the revision, in the order of its manifest, and the names depend on nothing else
    (docs/format.md section 6.3). A path that lies below another file, where case and forms of Unicode do
    not count, has none.
    """
    listed = list(paths)
    awkward = unportable(listed)
    taken = {_folded(path) for path in listed if path not in awkward}
    numbers: dict[str, int] = {}
    names: dict[str, str] = {}
    for path in (path for path in listed if path in awkward):
        escaped = "/".join(_ESCAPED.sub(_percent, part) for part in path.split("/"))
        number = numbers.get(key := _folded(escaped), 1)
        while _folded(name := _numbered(escaped, number)) in taken:
            number += 1
        numbers[key] = number
        taken.add(_folded(name))
        names[path] = name
    return {path: name for path, name in names.items() if path != name}


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def _numbered(path: str, number: int) -> str:
    """Return ``path`` with ``~2`` and so on before its last suffix; 1 is no number."""
    if number == 1:
        return path
    head, slash, base = path.rpartition("/")
    stem, dot, suffix = base.rpartition(".")
    stem, suffix = (stem, f"{dot}{suffix}") if stem else (base, "")
    return f"{head}{slash}{stem}~{number}{suffix}"


class RepositoryName(NamedTuple):
    """Which repository: where it comes from, what it is, and its name there.

    ``name`` is ``Org/Name``, or ``Name`` without an organisation. The words of ``hub`` and ``type`` are
    lowercase; of the names, case is kept, and does not count when two are compared.
    """

    hub: str
    type: str
    name: str

    @classmethod
    @lru_cache(
        1 << 12
    )  # of each snapshot, entry and event again and again, and there are few of them
    def parse(cls, text: str) -> RepositoryName:
        """Return what ``text`` spells; raise UsageError if it spells none.

        ``datasets/x`` is the dataset ``x`` without an organisation: no organisation is called so. Each
        half of a name has 1 to 96 of the characters ``A-Z a-z 0-9 . _ -``, begins and ends with neither
        ``.`` nor ``-``, and holds neither ``..`` nor ``--``; the whole does not end with ``.git``.
        Hubs and types that this version does not know are taken as they are.
        """
        before, colon, rest = text.rpartition(":")
        hub = before.lower() if colon else HUGGING_FACE
        first, slash, name = rest.partition("/")
        word = _TYPE.match(first.lower())
        is_typed = bool(slash and word and (word[1] == DATASET or "/" in name))
        kind = word[1] if word and is_typed else MODEL
        parsed = cls(hub, kind, name if is_typed else rest)
        if not parsed._is_fine or (is_typed and kind == MODEL):
            raise UsageError(
                f"{_shown(text)} is not the name of a repository.",
                hint="Write it as upstream does, for example Qwen/Qwen3.5-4B, or datasets/Org/Name.",
            )
        return parsed

    @property
    def _is_fine(self) -> bool:
        parts = self.name.split("/", 2)
        fine = len(parts) in {1, 2} and all(map(_REPO_PART.match, parts)) and _HUB.match(self.hub)
        # "--" is what a hub's cache has for a slash.
        return bool(fine) and not (
            ".." in self.name or "--" in self.name or self.name.endswith(".git")
        )

    @property
    def main_branch(self) -> str:
        """What the hub calls the branch that is meant where none is named."""
        return "master" if self.hub == MODELSCOPE else "main"

    @property
    def spelling(self) -> RepoId:
        """The one spelling: ``[hub:][datasets/]Org/Name``, without what is the default."""
        hub = "" if self.hub == HUGGING_FACE else f"{self.hub}:"
        kind = "" if self.type == MODEL else f"{self.type}s/"
        return RepoId(f"{hub}{kind}{self.name}")


def as_repo_id(text: str) -> RepoId:
    """Return the one spelling of a repository that ``text`` names; raise UsageError if it names none."""
    return RepositoryName.parse(text).spelling


def repo_id_of(name: str, *, hub: str = HUGGING_FACE, kind: str = MODEL) -> RepoId:
    """Return the spelling of the repository that is called ``name`` there; UsageError if none can be."""
    repository = RepositoryName(hub, kind, name)
    if RepositoryName.parse(repository.spelling) != repository:
        raise UsageError(f"No {kind} of {hub} can have the name {_shown(name)}.")
    return repository.spelling


def slug(repository: RepoId) -> str:
    """Return the folder of a repository in an archive (docs/format.md section 2).

    ``org/name`` for a model of Hugging Face, ``<hub>.<type>/org/name`` for all else.
    """
    hub, kind, full = RepositoryName.parse(repository)
    folder = full.lower() if "/" in full else f"_/{full.lower()}"
    return folder if (hub, kind) == (HUGGING_FACE, MODEL) else f"{hub}.{kind}/{folder}"


def as_commit(text: str) -> Commit:
    """Return ``text`` as a commit; raise HostileNameError if it is not 40 or 64 lowercase hex digits."""
    if not _COMMIT.match(text):
        raise HostileNameError(f"{_shown(text)} is not a commit of 40 or 64 lowercase hex digits.")
    return Commit(text)


def _shown(text: str) -> str:
    """Return ``text`` quoted, bounded, and with whatever is not printable escaped."""
    return repr(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
