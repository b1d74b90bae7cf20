"""What ``mirror``, ``import`` and ``sync`` share: options, the loop over repositories, the report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import (
    Size,
    advised,
    max_rate_option,
    memory_budget,
    memory_option,
    open_archive,
    remark_limits,
    unlisted,
)
from archiver.cli.progress import IndexMeter, Meter
from archiver.cli.snapshots import described, summary, title_of
from archiver.errors import ArchiverError, ExitCode, UsageError
from archiver.names import HUGGING_FACE, MODELSCOPE, TITLES, RepositoryName
from archiver.text import human_bytes, human_duration, plural, printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.catalogue.database import Catalogue
    from archiver.operations.mirror.remarks import Remark
    from archiver.operations.mirror.report import MirrorReport
    from archiver.operations.mirror.repositories import MirrorSettings
    from archiver.upstream.failover import Hubs
    from archiver.upstream.huggingface.client import HuggingFace
    from archiver.upstream.protocol import Upstream, WatchedUpstream
    from archiver.upstream.retry import Wait


Function = TypeVar("Function", bound=Callable[..., Any])

_QUIET_SECONDS: Final = 1.0
_OPTIONS = (
    click.option(
        "--include", multiple=True, metavar="PATTERN", help="Only files that fit; repeatable."
    ),
    click.option(
        "--exclude", multiple=True, metavar="PATTERN", help="No files that fit; repeatable."
    ),
    click.option(
        "--effort",
        type=click.Choice(["fast", "normal"]),
        default="normal",
        show_default=True,
        help="How hard to compress.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1, 64),
        help="How many files at once. [default: 4, and up to 16 where more than 16 threads encode]",
    ),
    memory_option,
    click.option(
        "--min-free",
        type=Size(),
        default="1GiB",
        show_default=True,
        help="Room that must stay free.",
    ),
    click.option(
        "-n", "--dry-run", is_flag=True, help="Say what would be fetched, and fetch nothing."
    ),
)


def ingest_options(function: Function) -> Function:
    """Add the options of every command that brings files in."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_connections_option = click.option(
    "--connections",
    type=click.IntRange(1, 64),
    help="The most connections for one large file. [default: up to 8, as many as are worth it]",
)


class HubNames(click.ParamType[tuple[str, ...]]):
    """Names of hubs, in order, with commas between them."""

    name = "hubs"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names; fail for one that is no hub that is fetched from."""
        names = tuple(part.strip().lower() for part in value.split(",")) if value else ()
        for name in names:
            if name not in {HUGGING_FACE, MODELSCOPE}:
                self.fail(f"{name!r} is neither {HUGGING_FACE} nor {MODELSCOPE}.", param, ctx)
        return tuple(dict.fromkeys(names))


_source_option = click.option(
    "--source",
    "sources",
    type=HubNames(),
    default="",
    metavar="HUB[,HUB]",
    help="The hubs to take bytes from, in order: huggingface, modelscope. Each repository is listed by its "
    "own, and another gives a file where it lists the same digest. [default: its own]",
)


def mirror_options(function: Function) -> Function:
    """Add the options of every command that fetches from a hub."""
    return _source_option(max_rate_option(_connections_option(ingest_options(function))))


class HubRemarks:
    """Remarks why the hub makes us wait: each attempt once a second at most, as streams fail together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[tuple[str, int], float] = {}
        """Reason and number of an attempt -> when that was last told."""

    def __call__(self, wait: Wait) -> None:
        """Remark it, unless the same was remarked just now."""
        with self._lock:
            now = time.monotonic()
            self._told = {told: at for told, at in self._told.items() if now - at < _QUIET_SECONDS}
            key = (wait.reason, wait.attempt)
            if key in self._told:
                return
            self._told[key] = now
            number = f"try {wait.attempt} of {wait.attempts}" if wait.attempt else "going on"
            output.remark(f"{wait.reason}; {number} in {human_duration(wait.seconds)}")


def open_hub(
    token: str | None,
    rate: int | None = None,
    connections: int | None = None,
    memory: int | None = None,
) -> HuggingFace:
    """Return the hub of HF_ENDPOINT, as the options of the command say; None for what is usual.

    Args:
        token: An access token.
        rate: At most so many bytes per second.
        connections: How many may fetch one file.
        memory: The bytes that the run may take.
    """
    from archiver.throttle import Throttle
    from archiver.upstream.connections import CONNECTIONS
    from archiver.upstream.huggingface.client import HuggingFace
    from archiver.upstream.retry import RetryPolicy

    return HuggingFace(
        token,
        retry=RetryPolicy(notify=HubRemarks()),
        throttle=Throttle(rate) if rate else None,
        connections=connections or CONNECTIONS,
        memory=memory_budget(memory).size,
    )


def open_upstream(
    names: Sequence[str] = (),
    tokens: Mapping[str, str | None] | None = None,
    rate: int | None = None,
    connections: int | None = None,
    memory: int | None = None,
) -> Hubs:
    """Return the hubs, each of them connected when it is first needed.

    Args:
        names: Those whose bytes are taken, in order; empty: each repository's own hub.
        tokens: Access tokens by the hub's name; what is missing or None comes from the environment.
        rate: At most so many bytes per second, of all together.
        connections: How many may fetch one file.
        memory: The bytes that the run may take.
    """
    from archiver.memory import BUDGET_MIN
    from archiver.throttle import Throttle
    from archiver.upstream.connections import CONNECTIONS
    from archiver.upstream.failover import Hubs
    from archiver.upstream.retry import RetryPolicy

    remarks = HubRemarks()
    # The windows of all hubs together are to be as large as that of one.
    budget = memory_budget(memory).size
    share = BUDGET_MIN + (budget - BUDGET_MIN) // max(1, len(names))
    settings: dict[str, Any] = {
        "retry": RetryPolicy(notify=remarks),
        "throttle": Throttle(rate) if rate else None,
        "connections": connections or CONNECTIONS,
        "memory": share,
    }
    own = tokens or {}

    def hugging_face() -> WatchedUpstream:
        from archiver.upstream.huggingface.client import HuggingFace

        return HuggingFace(own.get(HUGGING_FACE), **settings)

    def modelscope() -> WatchedUpstream:
        from archiver.upstream.modelscope.client import ModelScope

        return ModelScope(own.get(MODELSCOPE), **settings)

    connect = {HUGGING_FACE: hugging_face, MODELSCOPE: modelscope}
    return Hubs(connect, names, notify=output.remark)


def tokens_of(token: str | None, hubs: set[str]) -> dict[str, str | None]:
    """Return the token for each hub: one that was typed is for the only one of ``hubs``.

    Raise UsageError if it may be meant for several: a token must not reach another hub than its own.
    """
    context = click.get_current_context()
    if context.get_parameter_source("token") is not click.core.ParameterSource.COMMANDLINE:
        return {HUGGING_FACE: token}  # of its variable
    if len(hubs) > 1:
        raise UsageError(
            "--token is for one hub, and several are asked.",
            hint="Set HF_TOKEN and MODELSCOPE_API_TOKEN instead.",
        )
    return dict.fromkeys(hubs, token)


def mirror_settings(settings: dict[str, Any]) -> MirrorSettings:
    """Return how repositories are mirrored, by the command's options."""
    from archiver.codec.segment import Effort
    from archiver.operations.mirror.repositories import MirrorSettings

    return MirrorSettings(
        include=tuple(settings["include"]),
        exclude=tuple(settings["exclude"]),
        effort=Effort(settings["effort"]),
        jobs=settings["jobs"] or 0,
        memory=memory_budget(settings["memory"]),
        min_free=settings["min_free"],
        dry_run=settings["dry_run"],
    )


def open_catalogue(archive: Archive) -> Catalogue:
    """Return the archive's catalogue, to be closed."""
    from archiver.catalogue import rebuild

    with IndexMeter() as index_meter:
        return rebuild.open_catalogue(archive, index_meter)


def mirror_all(
    requests: Sequence[tuple[Upstream, str, str | None]], verb: str = "Mirroring", **settings: Any
) -> None:
    """Mirror each (upstream, repository, revision); report all, then exit with what went wrong."""
    from archiver.operations.mirror.lookups import Lookups
    from archiver.operations.mirror.repositories import RepositoryMirror

    failures: list[int] = []
    unprotected: list[int] = []
    several = len(requests) > 1
    # Adding is safe whatever else is there: what cannot be listed may only be stored a second time.
    archive = open_archive(reading=True)
    archive.require_writable()
    if not settings["dry_run"]:
        remark_limits(archive.store)
    try:
        with Lookups(archive, open_catalogue) as lookups:
            mirror_repository = RepositoryMirror(archive, lookups, mirror_settings(settings))
            for upstream, repository, revision in requests:
                try:
                    with Meter(verb) as meter:
                        report = mirror_repository(upstream, repository, revision, meter)
                    unprotected += print_report(report)
                except ArchiverError as error:
                    print_failure(repository, revision, error, title=repository if several else "")
                    if not several or error.exit_code == ExitCode.NO_SPACE:
                        output.exit_with(error.exit_code)
                    failures.append(int(error.exit_code))
    finally:
        hidden = unlisted(archive)
        for sentence in hidden:
            output.remark(sentence)
    finish(failures, len(requests), unprotected)
    if hidden:
        output.remark(
            "What lies there was not looked at, and may have been stored again. Check the permissions, "
            f"then run {advised('audit')}."
        )
        output.exit_with(ExitCode.SKIPPED)


def print_failure(
    repository: str, revision: str | None, error: ArchiverError, *, title: str
) -> None:
    """Print why a repository failed; ``title`` begins the sentence unless a repository does so already."""
    message = f"{title}: {error.message}" if title and not error.subject else error.message
    about = {"repository": repository, "revision": revision or ""}
    output.print_error(message, error.hint, int(error.exit_code), **about)


def print_report(report: MirrorReport) -> list[int]:
    """Print what one run did; return the exit codes of files that got no parity, though it is wanted."""
    fields = msgspec.to_builtins(report) | {"vouched": described(report.vouched)}
    output.record("mirror", **fields)
    title = title_of(report.repository, report.revision)
    for note in report.notes:
        output.remark(f"note: {note}")

    for remark in report.remarks:
        output.remark(f"note: {sentence(remark, report)}")
    size = f"{plural(report.files, 'file')}, {human_bytes(report.bytes)}"
    if report.outcome == "held":
        output.line(f"{title}: held already ({size}).")
    elif report.outcome == "planned":
        output.line(
            f"{title}: {size}; {human_bytes(report.held_bytes)} held already, "
            + _resumed(report.resumed_bytes)
            + f"{human_bytes(report.to_fetch_bytes)} to {'fetch' if report.origin == 'hub' else 'take in'}."
        )
    else:
        ratio = report.total_stored_bytes / max(report.bytes, 1)
        stored = f"stored as {human_bytes(report.total_stored_bytes)} ({ratio:.3f})"
        output.line(f"{title}: sealed, {size}, {stored}; {_written(report)}{_parity(report)}.")
        _print_sources(report)
    _print_vouchers(report)
    return _print_unprotected(title, report)


def _print_vouchers(report: MirrorReport) -> None:
    """Say whose digests the files were compared with, where they were not all upstream's."""
    vouched, title = report.vouched, title_of(report.repository, report.revision)
    if vouched is None:
        return
    if report.raised:
        output.line(
            f"  {plural(report.raised, 'file was', 'files were')} held already without upstream's word, "
            "and compared now with what it lists."
        )
    if report.origin == "folder":
        output.line("  No digest came with the files: what was read is what is kept.")
    elif vouched.nobody + vouched.cache + vouched.pin:
        output.line(f"  Vouched for by {summary(vouched)}.")
        mirror = advised("mirror", title)
        output.hint(
            f"{mirror} compares what is held with upstream, and fetches only what differs.", 2
        )
    if not report.preferred and report.outcome == "sealed":
        output.line(
            f"  {report.repository} alone means another snapshot, which has better vouchers or is whole; "
            f"this one is {report.repository}@{report.snapshot[:12]}."
        )
    for file in report.corrected:
        output.line(
            f"  {printable(file.path)}: the seal {file.held[:12]} has other bytes than upstream lists. "
            f"{advised('forget', f'{report.repository}@{file.held[:12]}')} takes it out of use."
        )


def _print_sources(report: MirrorReport) -> None:
    """Say from which hubs the bytes came, where they were not all the repository's own."""
    own = RepositoryName.parse(report.repository).hub
    if any(source.hub != own for source in report.fetched_from):
        parts = (
            f"{human_bytes(part.bytes)} from {TITLES[part.hub]}" for part in report.fetched_from
        )
        output.line(f"  Fetched: {', '.join(parts)}. All of it was listed by {TITLES[own]}.")


def _parity(report: MirrorReport) -> str:
    made = report.parity_bytes
    return f"; {human_bytes(made)} of parity made for it" if made else ""


def _print_unprotected(title: str, report: MirrorReport) -> list[int]:
    """Say which files got no parity, which the seal does not depend on; return their exit codes."""
    for failure in report.unprotected:
        output.print_error(
            f"{title} is sealed, but {failure.path} got no parity: {failure.reason}",
            failure.hint or f"Run {advised('parity add')} when that is mended.",
            failure.exit_code,
            repository=report.repository,
            revision=report.revision,
        )
    return [failure.exit_code for failure in report.unprotected]


def _written(report: MirrorReport) -> str:
    """Return when the stored bytes of a snapshot were written."""
    resumed, now = report.resumed_stored_bytes, report.stored_bytes
    before = report.total_stored_bytes - resumed - now
    if not now and report.total_stored_bytes and not resumed:
        return "all of it was stored already"
    held = f"{human_bytes(before)} held already, " if before > 0 else ""
    return f"{held}{_resumed(resumed)}{human_bytes(now)} written now"


def _resumed(count: int) -> str:
    return f"{human_bytes(count)} stored by an earlier run, " if count else ""


def finish(
    failures: Sequence[int], total: int, unprotected: Sequence[int] = (), *, counted: bool = False
) -> None:
    """Exit with PARTIAL if some failed, with the common code if all failed for one reason.

    If none failed, but files that were stored are ``unprotected``, with the least code of these. How
    many failed is printed, unless they were ``counted`` for the reader already.
    """
    if not failures and unprotected:
        output.exit_with(min(unprotected))
    if not failures:
        return
    codes = set(failures)
    if not counted:
        output.remark(f"{len(failures)} of {plural(total, 'repository', 'repositories')} failed.")
    whole = len(failures) >= total and len(codes) == 1
    output.exit_with(codes.pop() if whole else int(ExitCode.PARTIAL))


_SHOWN: Final = 5


def sentence(remark: Remark, report: MirrorReport) -> str:
    """Return the remark as a sentence, with what to do next."""
    names = ", ".join(printable(path) for path in remark.paths[:_SHOWN])
    names += f", … ({remark.count:,} in all)" if remark.count > _SHOWN else ""
    match remark.kind:
        case "include-fits-nothing" | "exclude-fits-nothing":
            option = remark.kind.partition("-")[0]
            fits = "pattern fits" if remark.count == 1 else "patterns fit"
            text = f"The {option} {fits} no file of the repository: {names}."
        case "weights-not-chosen":
            held = plural(remark.count, "file")
            text = f"The patterns take no weights; the repository has {held} of them: {names}."
        case "shards-not-chosen":
            of = f" that {printable(remark.index)} names" if remark.index else ""
            shards = plural(remark.total, "shard")
            text = f"The patterns leave out {remark.count:,} of {shards}{of}: {names}."
        case "shards-missing":
            names_them = "names" if remark.index.endswith(".json") else "is one of"
            text = (
                f"{printable(remark.index)} {names_them} {plural(remark.total, 'shard')}; {remark.count:,} "
                f"of them are not there: {names}. The model cannot be loaded without them: "
                f"{_completes(report)}."
            )
        case "stand-in":
            description = remark.instead.description if remark.instead else "is something else"
            text = (
                f"{names} {description}. It was kept, for its digest is the one that was listed. "
                "Tell those who published it."
            )
        case "left-out":
            counted, what = _left_out(remark)
            text = f"{counted} {what}: {names}."
        case "selection-unknown":
            text = (
                "The cache has no record of the files of this commit, so nobody knows whether "
                f"{plural(remark.count, 'file is', 'files are')} all of it: {_completes(report)}."
            )
    return text


def _left_out(remark: Remark) -> tuple[str, str]:
    """Return what was left out, counted, and why."""
    match remark.left:
        case "unfinished":
            return plural(remark.count, "unfinished download"), (
                "left out; import again once downloaded"
            )
        case "tool":
            return plural(remark.count, "trace", "traces") + " of download tools", "left out"
        case "system":
            return plural(remark.count, "trace", "traces") + " of operating systems", "left out"
    files = plural(remark.count, "file")
    return f"{files} that the cache's record of this commit does not list", "left out"


def _completes(report: MirrorReport) -> str:
    """Return what brings the missing files."""
    if RepositoryName.parse(report.repository).hub not in {HUGGING_FACE, MODELSCOPE}:
        return "download what is missing and import again"
    return f"{advised('mirror', f'{report.repository}@{report.revision}')} fetches the rest"
