"""A plan: the TOML list of what to mirror, read strictly, with all its problems named at once."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.errors import UsageError, explain_system_error
from archiver.names import HUGGING_FACE, TYPES, RepoId, RepositoryName, as_repo_id
from archiver.text import parse_duration, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTES_MAX: Final = 1 << 20
_PROBLEMS_MAX: Final = 20
_TEXT_MAX: Final = 250
_PLAN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_COLLECTION: Final = re.compile(r"[\w.-]{1,96}/[\w.-]{1,200}\Z", re.ASCII)
_PLAN_KEYS: Final = ("name", "collection", "max_age")
_REPOSITORY_KEYS: Final = ("name", "revision", "include", "exclude", "partial", "acknowledge")
_ACKNOWLEDGED: Final = ("gone", "refused")


class PlannedRepository(msgspec.Struct, frozen=True):
    """One entry of a plan; ``revision`` is None for the main branch, no patterns are all files.

    ``partial`` says that patterns which take no weights, or not all shards, are meant so.
    """

    name: str
    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    partial: bool = False
    acknowledge: tuple[str, ...] = ()
    """Facts about it that the owner knows of: ``gone``, ``refused``."""

    @property
    def title(self) -> str:
        """Return ``Org/Name`` or ``Org/Name@revision``, for messages."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


class Plan(msgspec.Struct, frozen=True):
    """What to mirror; ``collection`` is the hub's list that the plan follows, or ``""``."""

    name: str
    repositories: tuple[PlannedRepository, ...]
    collection: str = ""
    max_age: int = 0
    """Upstream should have answered for each within so many seconds; 0: the plan does not say."""


def find_plan(reference: str) -> Plan:
    """Return the plan in the file ``reference``, or the one of this name that comes with archiver.

    Raise UsageError that names the file and everything that is wrong with it.
    """
    path = Path(reference)
    shipped = shipped_plans()
    if reference in shipped and not path.is_file():
        return parse_plan(shipped[reference], f"the plan {reference}")
    return parse_plan(_read(path, shipped), str(path))


def shipped_plans() -> dict[str, bytes]:
    """Return the plans that come with archiver: name -> content."""
    folder = resources.files("archiver") / "carried" / "manifests"
    return {
        item.name.removesuffix(".toml"): item.read_bytes()
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".toml")
    }


def _read(path: Path, shipped: dict[str, bytes]) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_BYTES_MAX + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(
            f"There is no plan {path}.",
            hint=f"Name a TOML file, or a plan that comes with archiver: {', '.join(shipped)}.",
        ) from None
    except OSError as error:
        raise explain_system_error(error, "the plan was read") from error


def parse_plan(data: bytes, what: str) -> Plan:
    """Return a plan from its TOML; raise UsageError that names ``what`` and lists every problem."""
    problems: list[str] = []
    document = _toml(data, problems)
    _unknown(document, ("plan", "repository"), "", problems)
    head = _table(document.get("plan"), "[plan]", problems)
    entries = document.get("repository", [])
    if not isinstance(entries, list):
        problems.append("repository is not a list of tables; write [[repository]]")
        entries = []
    plan = Plan(
        name=_head_name(head, problems),
        collection=_collection(head, problems),
        repositories=tuple(_repositories(entries, problems)),
        max_age=_max_age(head, problems),
    )
    if not entries and not problems:
        problems.append("it lists no [[repository]]")
    if problems:
        raise _refused(what, problems)
    return plan


def _refused(what: str, problems: list[str]) -> UsageError:
    more = len(problems) - _PROBLEMS_MAX
    listing = "; ".join(problems[:_PROBLEMS_MAX]) + (f"; and {more:,} more" if more > 0 else "")
    return UsageError(
        f"{what} is not a plan ({plural(len(problems), 'problem')}): {listing}.",
        hint="Nothing was mirrored. Correct the plan and run the same command again.",
    )


def _toml(data: bytes, problems: list[str]) -> dict[str, Any]:
    if len(data) > _BYTES_MAX:
        problems.append(f"it has more than {_BYTES_MAX:,} bytes")
        return {}
    try:
        return tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        problems.append(f"it is not TOML: {printable(str(error))}")
        return {}


def _head_name(head: dict[str, Any], problems: list[str]) -> str:
    _unknown(head, _PLAN_KEYS, "[plan]: ", problems)
    name = head.get("name")
    if not isinstance(name, str) or not _PLAN_NAME.match(name):
        problems.append("[plan]: name must be 1 to 64 of the characters a-z 0-9 . _ -")
        return ""
    return name


def _collection(head: dict[str, Any], problems: list[str]) -> str:
    slug = head.get("collection", "")
    if not isinstance(slug, str) or (slug and not _COLLECTION.match(slug)):
        problems.append("[plan]: collection must be as in its address, Owner/title")
        return ""
    return slug


def _max_age(head: dict[str, Any], problems: list[str]) -> int:
    age = head.get("max_age")
    if age is None:
        return 0
    try:
        seconds = parse_duration(age) if isinstance(age, str) else 0
    except UsageError:
        seconds = 0
    if not seconds:
        problems.append('[plan]: max_age must be a duration such as "7d"')
    return seconds


def _repositories(entries: list[Any], problems: list[str]) -> Iterator[PlannedRepository]:
    seen: dict[tuple[str, str], int] = {}
    for number, entry in enumerate(entries, 1):
        table = _table(entry, f"repository {number}", problems)
        shown = table.get("name") if isinstance(table.get("name"), str) else None
        where = f"repository {number}" + (f" ({printable(shown, 100)})" if shown else "") + ": "
        repository = _repository(table, where, problems)
        key = (repository.name.casefold(), repository.revision or "main")
        if repository.name and key in seen:
            problems.append(f"{where}is listed already as repository {seen[key]}")
        seen.setdefault(key, number)
        yield repository


def _repository(table: dict[str, Any], where: str, problems: list[str]) -> PlannedRepository:
    _unknown(table, _REPOSITORY_KEYS, where, problems)
    name, revision = table.get("name"), table.get("revision")
    if not isinstance(name, str):
        problems.append(f"{where}name is missing" if name is None else f"{where}name is no text")
        name = ""
    else:
        try:
            name = _on_the_hub(as_repo_id(name))
        except UsageError as error:
            problems.append(where + error.message.rstrip("."))
    if revision is not None and not _fine_text(revision):
        problems.append(f"{where}revision must be the name of a branch, a tag or a commit")
        revision = None
    include, exclude = (_patterns(table, key, where, problems) for key in ("include", "exclude"))
    partial = table.get("partial", False)
    if not isinstance(partial, bool):
        problems.append(f"{where}partial must be true or false")
        partial = False
    if partial and not include and not exclude:
        problems.append(f"{where}partial is of no use without include or exclude")
    acknowledge = _patterns(table, "acknowledge", where, problems)
    if not set(acknowledge) <= set(_ACKNOWLEDGED):
        problems.append(
            f"{where}acknowledge can hold {' and '.join(_ACKNOWLEDGED)} only: damage and missing "
            "copies are mended, not acknowledged"
        )
    return PlannedRepository(name, revision, include, exclude, partial, acknowledge)


def _on_the_hub(repository: RepoId) -> RepoId:
    hub, kind, _ = RepositoryName.parse(repository)
    if hub != HUGGING_FACE or kind not in TYPES:
        raise UsageError("a plan mirrors models and datasets of Hugging Face only")
    return repository


def _patterns(table: dict[str, Any], key: str, where: str, problems: list[str]) -> tuple[str, ...]:
    listed = table.get(key, [])
    if not isinstance(listed, list) or not all(map(_fine_text, listed)):
        problems.append(f'{where}{key} must be a list of patterns such as ["*.json"]')
        return ()
    return tuple(listed)


def _fine_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _TEXT_MAX and value.isprintable()


def _table(value: object, where: str, problems: list[str]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    problems.append(f"{where} is missing" if value is None else f"{where} is not a table")
    return {}


def _unknown(
    table: dict[str, Any], known: tuple[str, ...], where: str, problems: list[str]
) -> None:
    problems += [
        f"{where}{printable(key, 60)!r} is not a key that a plan has; there are {', '.join(known)}"
        for key in table
        if key not in known
    ]
