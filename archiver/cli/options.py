"""Options that several commands share, and what they open."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar

import click

from archiver import __version__
from archiver.cli import output
from archiver.errors import ArchiverError, ExitCode, UsageError
from archiver.memory import BUDGET, BUDGET_MIN, MemoryBudget, available_cores
from archiver.storage.filesystem import Limit
from archiver.text import human_bytes, parse_duration, parse_share, parse_size, utc_before

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.storage.store import Store


Function = TypeVar("Function", bound=Callable[..., Any])

_log = logging.getLogger(__name__)


class Amount(click.ParamType[int]):
    """A whole number of something, with its unit; a kind of it says how it is read."""

    read: Callable[[str], int]
    shown: Callable[[int], str] = staticmethod(str)

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the number; a usage error if it is none."""
        if isinstance(value, int):
            return value
        try:
            amount = self.read(value)
        except UsageError as error:
            self.fail(f"{error.message} {error.hint}", param, ctx)
        if amount < self._least:
            least = (
                f"at least {self.shown(self._least)}" if self._least > 1 else "more than nothing"
            )
            self.fail(f"{value} is too little: it must be {least}.", param, ctx)
        return amount


class Size(Amount):
    """A number of bytes such as ``500MB`` or ``4GiB``."""

    name = "SIZE"
    read = staticmethod(parse_size)
    shown = staticmethod(human_bytes)


class Duration(Amount):
    """A number of seconds such as ``90s``, ``30m``, ``2h`` or ``30d``."""

    name = "DURATION"
    read = staticmethod(parse_duration)


class Moment(click.ParamType[str]):
    """A day (``2027-01-31``), a time (``2027-01-31T06:00:00Z``), or so long ago or ahead (``90d``)."""

    name = "WHEN"

    def __init__(self, *, ahead: bool = False) -> None:
        self._sign = -1 if ahead else 1

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the time as the journal writes it, UTC; a usage error if it is none."""
        from datetime import datetime

        text = str(value).strip()
        full = f"{text}T00:00:00Z" if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else text
        try:
            known = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", full)
            if known and datetime.strptime(full, "%Y-%m-%dT%H:%M:%SZ"):  # noqa: DTZ007 - Z is UTC
                return full
        except ValueError:
            self.fail(f"{text[:80]!r} is a day or a time that does not exist.", param, ctx)
        try:
            return utc_before(self._sign * parse_duration(text))
        except UsageError:
            self.fail(f"{text[:80]!r} is no time such as 2027-01-31 or 90d.", param, ctx)


class Share(click.ParamType[float]):
    """A part of a whole such as ``5%``."""

    name = "PERCENT"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return more than 0 and at most 1; a usage error if it is no such part."""
        if isinstance(value, float):
            return value
        try:
            return parse_share(value)
        except UsageError as error:
            self.fail(f"{error.message} {error.hint}", param, ctx)


snapshot_option = click.option(
    "--snapshot", "reference", metavar="REPO[@REVISION]", help="Only what this snapshot needs."
)
max_rate_option = click.option("--max-rate", type=Size(1), help="Bytes per second, such as 50MB.")
memory_option = click.option(
    "--memory",
    type=Size(BUDGET_MIN),
    help=f"Stay below this much memory in all; at least {human_bytes(BUDGET_MIN)}. "
    f"[default: {human_bytes(BUDGET)}]",
)
packs_option = click.option(
    "--packs",
    "pack_folders",
    metavar="DIR",
    multiple=True,
    type=Path,  # no click.Path: it looks at the path, and a look at a dead mount never ends
    help="A further folder where packs are looked for; repeatable.",
)
token_option = click.option("--token", envvar="HF_TOKEN", help="An access token. [env: HF_TOKEN]")
key_option = click.option(
    "--key",
    "keys",
    metavar="KEY|FILE",
    multiple=True,
    help="A public key, kept outside the archive, that must have signed every seal and manifest; "
    "repeatable. [default: what the policy wants]",
)


def common(function: Function) -> Function:
    """Add the options of every command, which may stand before or after its name."""

    @click.option("-C", "--archive", metavar="DIR", help="The archive. [env: ARCHIVER_ARCHIVE]")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
    @click.option("-q", "--quiet", is_flag=True, help="Print results only, no progress.")
    @click.option(
        "-v",
        "--verbose",
        "verbosity",
        count=True,
        help="Log to stderr what is done; -vv: in detail.",
    )
    @click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="How the log of -v is written. [default: text]",
    )
    @functools.wraps(function)
    def wrapped(
        archive: str | None,
        as_json: bool,
        quiet: bool,
        verbosity: int,
        log_format: str | None,
        **rest: Any,
    ) -> Any:
        ctx = click.get_current_context()
        above = ctx.find_root().obj or {}
        as_json = as_json or above.get("as_json", False)
        quiet = quiet or above.get("quiet", False)
        verbosity = max(verbosity, above.get("verbosity", 0))
        log_format = log_format or above.get("log_format") or "text"
        output.configure(as_json=as_json, quiet=quiet, verbosity=verbosity, log_format=log_format)
        ctx.obj = Path(archive or above.get("archive") or ".")
        if isinstance(ctx.command, click.Group):
            # Its commands look where these stood before the first word.
            given = {"archive": str(ctx.obj), "as_json": as_json}
            logs = {"verbosity": verbosity, "log_format": log_format}
            ctx.find_root().obj = {**above, **given, **logs, "quiet": quiet}
        if ctx.invoked_subcommand is None:
            _log.info("%s of version %s, archive %s", ctx.command_path, __version__, ctx.obj)
        return ctx.invoke(function, **rest)

    return wrapped  # type: ignore[return-value] # click's decorators change the type; the name stays


def archive_folder() -> Path:
    """Return the folder that -C or ARCHIVER_ARCHIVE names."""
    folder = click.get_current_context().obj
    assert isinstance(folder, Path)
    return folder


def open_archive(*, reading: bool = False, pack_folders: Sequence[Path] = ()) -> Archive:
    """Return the archive that -C or ARCHIVER_ARCHIVE names; packs are read from ``pack_folders`` too.

    Raise NoArchiveError if it is none, ArchiverError if the mount that it should lie on gives no answer,
    UsageError for a folder of packs that is not there.
    For ``reading``, a folder that this user may not list is passed over, and reported in the end; else it
    is an error, because whoever deletes must know what is there.
    """
    from archiver.archive.archive import Archive
    from archiver.archive.place_look import require_answer

    require_answer(archive_folder())
    for folder in pack_folders:
        _require_packs(folder)
    archive = Archive.open(archive_folder(), pack_folders)
    if reading:
        archive.store.pass_over_unreadable()
    return archive


def _require_packs(folder: Path) -> None:
    """Raise UsageError unless the folder is there and has packs: most often its disk is not mounted."""
    from archiver.archive.packs.folders import PackFolders
    from archiver.archive.place_look import LOOK_SECONDS, look_at

    look = look_at(folder)
    if not look.answered:
        reason = f"gives no answer within {LOOK_SECONDS:.0f} seconds"
    elif look.unmounted:
        reason = f"lies on a disk that is not mounted at {look.unmounted}"
    elif look.error:
        reason = f"cannot be listed: {look.error}"
    elif not look.there:
        reason = "is not there"
    elif next(PackFolders([folder]).packs(), None) is None:
        reason = "holds no pack"
    else:
        return
    raise UsageError(
        f"The folder of packs {folder} {reason}.",
        hint="Check the path; is the disk mounted? Packs may lie in it, in <aa>/ or in packs/<aa>/.",
    )


def unlisted(archive: Archive) -> list[str]:
    """Return a sentence for each folder that was passed over."""
    folders = archive.store.passed_over()
    return [f"{folder} cannot be listed: {reason}." for folder, reason in folders.items()]


def advised(verb: str, *words: str, or_else: str = "") -> str:
    """Return a command on the archive of this run, in quotes, to be typed as it stands.

    Where there is no archive, a command on ``or_else``, if that is given.
    """
    from archiver.archive.advice import command

    place = str(archive_folder())
    return command(verb, or_else if or_else and not _is_archive() else place, *words)


def exit_damaged() -> NoReturn:
    """End a command that came upon damage and did what it could without; an audit says more."""
    output.remark(f"Run {advised('audit')} to see all that is damaged.")
    output.exit_with(ExitCode.DAMAGE)


def _is_archive() -> bool:
    try:
        open_archive()
    except ArchiverError:
        return False
    return True


def split_reference(text: str) -> tuple[str, str | None]:
    """Return ``REPO[@REVISION]`` as its two parts; a repository in its one spelling."""
    from archiver.names import as_repo_id

    repository, at, revision = text.partition("@")
    if not repository or (at and not revision):
        raise UsageError(f"{text!r} is not REPO or REPO@REVISION.")
    return as_repo_id(repository), revision or None


def unswallowed(
    argument: str | None, value: str | None, without_value: str
) -> tuple[str, str | None]:
    """Return a command's argument, and the value of its option that may have none, as they are meant.

    Written before the argument, such an option takes it for its value: ``show --tensors Org/Name``. Then it
    is the argument, and the option's value is what it has ``without_value``. Raise MissingParameter where
    there is neither.
    """
    if argument is not None:
        return argument, value
    if value is None or value == without_value:
        context = click.get_current_context()
        missing = next(
            param for param in context.command.params if isinstance(param, click.Argument)
        )
        raise click.MissingParameter(ctx=context, param=missing)
    return value, without_value


def worker_count() -> int:
    """Return how many threads a smoke test reads with: the cores that this process may use."""
    return available_cores()


def memory_budget(size: int | None, least: int = BUDGET_MIN) -> MemoryBudget:
    """Return what a run may take: ``size`` bytes, if that is given, and every core of this process."""
    if size is not None and size < least:
        raise click.UsageError(f"--memory must be at least {human_bytes(least)}.")
    return MemoryBudget(BUDGET if size is None else size, available_cores())


_SENTENCES: Final = {
    Limit.FOLDER_SYNC: "This disk cannot make names durable: what was stored in the last minutes "
    "before a power cut may be gone after it. Nothing that is listed afterwards is wrong; run the "
    "same command again.",
    Limit.LOCKS: "This disk has no locks: nothing keeps a second run of the same plan from doing the "
    "same work, which harms nothing. Where something is deleted, a file stands in for the lock.",
}


def limits(store: Store) -> list[tuple[Limit, str]]:
    """Return each limit of the archive's disk with a sentence; nothing where the disk is not known."""
    if store.folder is None:
        return []
    try:
        return [(limit, _SENTENCES[limit]) for limit in sorted(store.folder.limits())]
    except ArchiverError:
        return []  # whoever reads or writes there will say why


def remark_limits(store: Store) -> None:
    """Say it once, to a person who begins to write there."""
    for _, sentence in limits(store):
        output.remark(f"note: {sentence}")


def print_limits(store: Store) -> None:
    """Say it among the results."""
    for limit, sentence in limits(store):
        output.record("limit", limit=limit, message=sentence)
        output.line(f"Disk: {sentence}")


_VARIABLE: Final = "ARCHIVER_KEY_PASSWORD"

Key_co = TypeVar("Key_co", covariant=True)


class Locked(Protocol[Key_co]):
    """A secret key as its file has it, which may need a password."""

    @property
    def needs_password(self) -> bool:
        """Return whether it does."""

    def unlock(self, password: str) -> Key_co:
        """Return the key; raise if the password is wrong."""


def unlocked(key: Locked[Key_co], file: Path) -> Key_co:
    """Return the secret key that lies in ``file``, by its password if it has one."""
    return key.unlock(password(str(file)) if key.needs_password else "")


def password(what: str, *, twice: bool = False) -> str:
    """Return the password of ``what``; raise UsageError if it is not given and there is nobody to ask."""
    given = os.environ.get(_VARIABLE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what} needs a password, and there is no terminal to ask at.",
            hint=f"Set {_VARIABLE}.",
        )
    typed: str = click.prompt(
        f"Password of {what}", hide_input=True, confirmation_prompt=twice, err=True
    )
    return typed
