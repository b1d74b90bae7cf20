"""A plan's file, read strictly: what it cannot mean is refused, all of it at once, with its lines."""

from __future__ import annotations

import os
import re
import shlex
import stat
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from archiver.errors import UsageError, explain_system_error
from archiver.names import HUGGING_FACE, MODELSCOPE, TYPES, RepositoryName, as_repo_id
from archiver.plan import table
from archiver.plan.document import (
    PATTERN_MARKS,
    REVISION_WORDS,
    AuditDepth,
    Budget,
    Night,
    NightAudit,
    Plan,
    PlannedRepository,
    SecretKind,
    SecretName,
    SmokeWish,
    is_revision_pattern,
)
from archiver.plan.table import Problems, Table, WrongError, list_of
from archiver.plan.toml import BYTES_MAX, Document, TomlError
from archiver.plan.window import SPANS_MAX, Span, Window, parse_span, zone_problem
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBLEMS_MAX: Final = 20
"""Problems that are told; the others are counted."""
SOURCES: Final = (HUGGING_FACE, MODELSCOPE)
"""Hubs that a plan can name."""
ACKNOWLEDGED: Final = ("gone", "refused")
SMOKE_LEVELS: Final = ("structure", "tokenizer", "load", "forward", "generate", "golden")
AUDIT_DEPTHS: Final = ("structure", "stored", "content", "files")
PRIORITY_MAX: Final = 1_000_000

_PLAN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_COLLECTION: Final = re.compile(r"(?:[a-z]{1,31}:)?[\w.-]{1,96}/[\w.-]{1,200}\Z", re.ASCII)
_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9._*?!\[\]-]{1,96}\Z")
_NO_REVISION: Final = re.compile(r"[\x00-\x20\x7f~^:\\]|\.\.|@\{|\A[/-]|/\Z|\.lock\Z|//")
"""What no name of a branch or tag has (git-check-ref-format), and so no pattern of one."""
_SECRET: Final = re.compile(r"(file|credential|env):(.+)\Z")
_PLACES_OF_SECRETS: Final = '["file:/etc/archiver/ping.url"]'
_WORDS_MAX: Final = 100
_REASON_MAX: Final = 300


# --- the file


def find_plan(reference: str) -> Plan:
    """Return the plan in the file ``reference``, or the one of this name that comes with archiver.

    Raise UsageError that names the file and everything that is wrong with it.
    """
    path = Path(reference)
    shipped = shipped_plans()
    if reference in shipped and not path.is_file():
        return parse_plan(shipped[reference], f"the plan {reference}")
    data, is_own = _read(path, shipped)
    plan = parse_plan(data, str(path))
    return msgspec.structs.replace(plan, file=str(path.absolute()), is_own=is_own)


def shipped_plans() -> dict[str, bytes]:
    """Return the plans that come with archiver: name -> content."""
    folder = resources.files("archiver") / "carried" / "manifests"
    return {
        item.name.removesuffix(".toml"): item.read_bytes()
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".toml")
    }


def _read(path: Path, shipped: dict[str, bytes]) -> tuple[bytes, bool]:
    """Return what a file holds, and whether nobody but this user and root can have written it."""
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            own = info.st_uid in {0, os.geteuid()} and not info.st_mode & (
                stat.S_IWGRP | stat.S_IWOTH
            )
            return file.read(BYTES_MAX + 1), own
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(
            f"There is no plan {path}.",
            hint=f"Name a TOML file, or a plan that comes with archiver: {', '.join(shipped)}.",
        ) from None
    except OSError as error:
        raise explain_system_error(error, "the plan was read") from error


def parse_plan(data: bytes, what: str) -> Plan:
    """Return a plan from its TOML; raise UsageError that names ``what`` and lists every problem."""
    try:
        document = Document(data)
    except TomlError as error:
        at = f"line {error.line}: " if error.line else ""
        raise _refused(what, [f"{at}{error.reason[:_REASON_MAX]}"], 1) from None
    problems = Problems()
    plan = _plan(document.values, problems)
    if problems:
        raise _refused(what, problems.sentences(document, PROBLEMS_MAX), len(problems))
    return plan


def _refused(what: str, problems: list[str], count: int) -> UsageError:
    more = count - len(problems)
    return UsageError(
        f"{what} is not a plan ({plural(count, 'problem')}).",
        hint="Nothing was done. Correct the plan and run the same command again.",
        details=(*problems, f"and {more:,} more") if more > 0 else tuple(problems),
    )


# --- its tables


def _plan(values: dict[str, Any], problems: Problems) -> Plan:
    root = Table(values, (), "", problems)
    head = root.table("plan", "[plan]") or Table(values.get("plan"), (), "[plan]", problems)
    night = root.table("night", "[night]")
    plan = Plan(
        name=_name(head),
        repositories=tuple(_repositories(root, problems)),
        collection=head.read("collection", _collection, ""),
        max_age=head.read("max_age", table.duration, 0),
        window=_window(head),
        budget=_budget(head),
        max_rate=head.read("max_rate", table.some_size, 0),
        min_free=head.read("min_free", table.size, None),
        sources=head.read("sources", _sources, ()),
        night=_night(night) if night else Night(),
    )
    head.close()
    root.close()
    if not values.get("repository") and not problems:
        problems.add((), "it lists no [[repository]]")
    return plan


def _name(head: Table) -> str:
    if "name" not in head:
        head.note("name must be 1 to 64 of the characters a-z 0-9 . _ -")
    return head.read("name", _plan_name, "")


def _plan_name(value: object) -> str:
    if isinstance(value, str) and _PLAN_NAME.match(value):
        return value
    raise WrongError("must be 1 to 64 of the characters a-z 0-9 . _ -")


def _collection(value: object) -> str:
    if isinstance(value, str) and _COLLECTION.match(value):
        return value
    if value == "":  # as older plans could have it
        return ""
    raise WrongError("must be as in its address, Owner/title")


def _window(head: Table) -> Window | None:
    spans: tuple[Span, ...] = ()
    spans = head.read("window", list_of(_span, '["01:00-06:00"]', alone=True), spans)
    zone = head.read("timezone", _timezone, "")
    if len(spans) > SPANS_MAX:
        head.note(f"window must have at most {SPANS_MAX} elements", "window")
    if "window" in head and "timezone" not in head:
        head.note('window needs a timezone beside it, such as timezone = "Europe/Berlin"', "window")
    if "timezone" in head and "window" not in head:
        head.note("timezone is of no use without window", "timezone")
    return Window(spans, zone) if spans and zone else None


def _span(value: object) -> Span:
    if not isinstance(value, str):
        raise WrongError('must be a window such as "01:00-06:00"')
    try:
        return parse_span(value[: table.TEXT_MAX])
    except ValueError as error:
        raise WrongError(f'is "{printable(value, 40)}": {error}') from None


def _timezone(value: object) -> str:
    if not isinstance(value, str):
        raise WrongError("must be the name of a time zone such as Europe/Berlin")
    problem = zone_problem(value)
    if problem:
        raise WrongError(f'is "{printable(value, 40)}": {problem}')
    return value


def _budget(head: Table) -> Budget:
    budget = head.table("budget", "[plan] budget")
    if budget is None:
        return Budget()
    limits = Budget(
        bytes=budget.read("bytes", table.some_size, 0),
        seconds=budget.read("hours", table.hours, 0),
    )
    budget.close()
    return limits


def _sources(value: object) -> tuple[str, ...]:
    sources = list_of(table.choice(*SOURCES), '["huggingface"]')(value)
    if not sources:
        raise WrongError('must be a list such as ["huggingface"]')
    if len(set(sources)) < len(sources):
        raise WrongError("names a hub twice")
    return sources


# --- what is mirrored


def _repositories(root: Table, problems: Problems) -> Iterator[PlannedRepository]:
    seen: dict[tuple[str, str], int] = {}
    for number, entry in enumerate(root.tables("repository", _title), 1):
        noted = len(problems)
        repository = _repository(entry)
        entry.close()
        for name in repository.revisions or (repository.revision or "main",):
            key = repository.selector.casefold(), name
            if repository.selector and seen.setdefault(key, number) != number:
                entry.note(f"is listed already as repository {seen[key]}")
                break
        if len(problems) == noted:
            yield repository


def _title(number: int, value: object) -> str:
    if isinstance(value, dict):
        names = (value.get(key) for key in ("name", "author", "collection"))
        shown = next((name for name in names if isinstance(name, str)), "")
        if shown:
            return f"repository {number} ({printable(shown, 100)})"
    return f"repository {number}"


def _repository(entry: Table) -> PlannedRepository:
    name = entry.read("name", _repository_name, "")
    author = entry.read("author", _author, "")
    collection = entry.read("collection", _collection, "")
    kinds = [key for key in ("name", "author", "collection") if key in entry]
    if not kinds:
        entry.note("name is missing (or author, or collection)")
    elif len(kinds) > 1:
        entry.note(f"{' and '.join(kinds)} exclude each other", kinds[1])
    revision = entry.read("revision", _revision, None)
    revisions: tuple[str, ...] = ()
    revisions = entry.read("revisions", list_of(_revision_pattern, '["main", "v*"]'), revisions)
    if "revisions" in entry and not revisions and revision is None:
        entry.note('revisions must be a list such as ["main", "v*"]', "revisions")
    if "revision" in entry and "revisions" in entry:
        entry.note("revision and revisions exclude each other", "revisions")
    repository = PlannedRepository(
        name=name,
        author=author,
        collection=collection,
        revision=revision,
        revisions=tuple(dict.fromkeys(revisions)),
        include=entry.read("include", _include, ()),
        exclude=entry.read("exclude", _exclude, ()),
        partial=entry.read("partial", table.flag, default=False),
        acknowledge=entry.read("acknowledge", _acknowledge, ()),
        priority=entry.read("priority", table.integer(-PRIORITY_MAX, PRIORITY_MAX), 0),
        effort=cast("Any", entry.read("effort", table.choice("fast", "normal"), "")),
        smoke=entry.read("smoke", _smoke, ""),
        gone=entry.read("gone", table.day, ""),
        sources=entry.read("sources", _sources, ()),
    )
    if repository.partial and not repository.include and not repository.exclude:
        entry.note("partial is of no use without include or exclude", "partial")
    if repository.include and set(repository.include) <= set(repository.exclude):
        entry.note("exclude leaves nothing of what include takes", "exclude")
    if "*" in repository.exclude:
        entry.note("exclude leaves nothing: it has the pattern *", "exclude")
    return repository


def _repository_name(value: object) -> str:
    if not isinstance(value, str):
        raise WrongError("is no text")
    if not PATTERN_MARKS.intersection(value):
        return _supported(_parsed_name(value, value))
    prefix, slash, pattern = value.rpartition("/")
    if not slash or PATTERN_MARKS.intersection(prefix):
        raise WrongError(
            f'is "{printable(value, 100)}": a pattern has its organisation written out, '
            "as Qwen/Qwen3.5-*"
        )
    if not _NAME_PATTERN.match(pattern):
        raise WrongError(f'is "{printable(value, 100)}", which no repository\'s name can fit')
    return _supported(_parsed_name(f"{prefix}/x", value)).removesuffix("x") + pattern


def _author(value: object) -> str:
    if not isinstance(value, str) or not value or PATTERN_MARKS.intersection(value):
        raise WrongError('must be the name of an organisation or a user, as "Qwen"')
    return _supported(_parsed_name(f"{value}/x", value)).removesuffix("/x")


def _parsed_name(text: str, said: str) -> str:
    """Return the one spelling of a repository; ``said`` is what the plan has."""
    try:
        spelled = as_repo_id(text)
    except UsageError:
        raise WrongError(
            f'is "{printable(said, 100)}", which is not the name of a repository such as '
            "Qwen/Qwen3.5-4B or datasets/Org/Name"
            if text == said
            else f'is "{printable(said, 100)}", which is no name that a hub has'
        ) from None
    return spelled


def _supported(spelled: str) -> str:
    hub, kind, _ = RepositoryName.parse(spelled)
    if hub not in SOURCES or kind not in TYPES:
        raise WrongError(
            f'is "{printable(spelled.removesuffix("/x"), 100)}": a plan mirrors models and '
            "datasets of Hugging Face and ModelScope"
        )
    return spelled


def _revision(value: object) -> str | None:
    try:
        return table.text(value)
    except WrongError:
        raise WrongError("must be the name of a branch, a tag or a commit") from None


def _revision_pattern(value: object) -> str:
    name = table.text(value)
    if name in REVISION_WORDS:
        return name
    if is_revision_pattern(name) and _NO_REVISION.search(name):
        raise WrongError(f'is "{printable(name, 40)}", which no branch or tag can fit')
    return name


def _include(value: object) -> tuple[str, ...]:
    return list_of(_path_pattern, '["*.json"]')(value)


def _exclude(value: object) -> tuple[str, ...]:
    # One that fits nothing harms nobody: it is remarked when the plan runs.
    return list_of(table.text, '["*.json"]')(value)


def _path_pattern(value: object) -> str:
    pattern = table.text(value)
    parts = pattern.split("/")
    if pattern.startswith("/"):
        why = "paths of a repository begin without a slash"
    elif "." in parts or ".." in parts or "" in parts:
        why = "no path has a part that is empty, . or .."
    else:
        return pattern
    raise WrongError(f'is "{printable(pattern, 60)}", which fits no file: {why}')


def _acknowledge(value: object) -> tuple[str, ...]:
    facts = list_of(table.text, '["gone"]')(value)
    if set(facts) <= set(ACKNOWLEDGED):
        return facts
    raise WrongError(
        f"can hold {' and '.join(ACKNOWLEDGED)} only: damage and missing copies are mended, "
        "not acknowledged"
    )


def _smoke(value: object) -> SmokeWish:
    if value is False:
        return "none"
    try:
        return cast("SmokeWish", table.choice(*SMOKE_LEVELS)(value))
    except WrongError as wrong:
        raise WrongError(wrong.reason.replace("must be", "must be false,", 1)) from None


# --- what a night does


def _night(night: Table) -> Night:
    audit = night.table("audit", "[night] audit")
    settings = Night(
        audit=_audit(audit) if audit else None,
        copies=night.read("copies", list_of(_file_name, '["/mnt/disk/weights"]'), ()),
        parity=night.read("parity", table.flag, default=False),
        sign=night.read("sign", _file_name, ""),
        report=night.read("report", table.flag, default=False),
        prometheus=night.read("prometheus", _file_name, ""),
        ping=night.read("ping", list_of(_secret, _PLACES_OF_SECRETS, alone=True), ()),
        notify=night.read("notify", list_of(_secret, _PLACES_OF_SECRETS, alone=True), ()),
        before=night.read("before", list_of(_command, '[["mount", "/mnt/disk"]]'), ()),
        after=night.read("after", list_of(_command, '[["umount", "/mnt/disk"]]'), ()),
    )
    night.close()
    return settings


def _audit(audit: Table) -> NightAudit:
    settings = NightAudit(
        share=audit.read("share", table.share, 0.0),
        seconds=audit.read("hours", table.hours, 0),
        bytes=audit.read("bytes", table.some_size, 0),
        level=cast("AuditDepth", audit.read("level", table.choice(*AUDIT_DEPTHS), "stored")),
    )
    audit.close()
    return settings


def _file_name(value: object) -> str:
    try:
        return table.text(value)
    except WrongError:
        raise WrongError("must be the name of a file or folder") from None


def _secret(value: object) -> SecretName:
    """Return where a secret lies; one that is itself in the plan is refused, and not repeated."""
    if isinstance(value, str) and "://" in value and not value.startswith("file:"):
        raise WrongError(
            "must say where a URL lies, not the URL, for that is a secret: write it into a file, and "
            f"{_PLACES_OF_SECRETS} here"
        )
    match = (
        _SECRET.match(value) if isinstance(value, str) and len(value) <= table.TEXT_MAX else None
    )
    if match is None or not match[2].isprintable():
        raise WrongError('must be "file:PATH", "credential:NAME" or "env:VARIABLE"')
    return SecretName(cast("SecretKind", match[1]), match[2])


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            value = []
    if (
        isinstance(value, list)
        and 0 < len(value) <= _WORDS_MAX
        and all(isinstance(word, str) and "\0" not in word for word in value)
        and value[0]
    ):
        return tuple(value)
    raise WrongError('must be a command and its words, as ["mount", "/mnt/disk"]')
