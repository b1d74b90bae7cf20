"""Watch: look at repositories upstream, fetch nothing, and journal what upstream did.

Two requests for each repository; more only where something moved, and for one old commit a run, in
rotation. Trouble with the network is soft: what could not be asked is named in the report. Of what upstream
does not show, the journal is told once a day, and only where upstream answered a control request as well.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive.events import (
    UnseenRepository,
    UpstreamChange,
    UpstreamChanged,
    UpstreamUnseen,
    new_event,
)
from archiver.archive.plans import planned_entries
from archiver.archive.vouching import Voucher
from archiver.archive.watch import (
    HeldFacts,
    UpstreamFile,
    UpstreamHistory,
    changes,
    commit_to_ask,
    file_changes,
    is_news,
    is_noted,
    verdict,
    weights_left_out,
)
from archiver.errors import (
    ArchiverError,
    DisabledError,
    ExitCode,
    NetworkError,
    TokenError,
    UnseenError,
    UpstreamGoneError,
    skip_damaged,
)
from archiver.names import HUGGING_FACE, MODELSCOPE, RepositoryName
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.archive.watch import RepositoryState
    from archiver.plan.document import Plan
    from archiver.upstream.protocol import WatchedUpstream

WATCHED: Final = (HUGGING_FACE, MODELSCOPE)
"""The hubs that can be watched."""
_UNREACHABLE: Final = 2
"""Repositories in a row that could not be reached, after which the others are not looked at."""
_ASKED_MOVES: Final = 3
"""Branches of one repository of which it is asked whether they were rewritten; main is the first."""
_UNSEEN: Final = frozenset({401, 403, 404, 410, 451})
"""The statuses by which a hub does not show a repository."""

Outcome = Literal[
    "same", "changed", "first", "unseen", "gone", "unreachable", "failed", "not-tried"
]
"""``first``: nobody had looked before; ``unseen``: not shown to us; ``gone``: not shown, and called gone by
now; ``unreachable``: by the network; ``failed``: the answer makes no sense, or refuses us."""
GRAVE: Final = frozenset({"gone", "disabled", "identity", "commit-lost"})
"""Changes by which upstream lost something: besides these, a branch that was rewritten."""


class WatchedEntry(NamedTuple):
    """A repository to look at, and the patterns by which a plan takes its files.

    With ``partial`` the patterns leave out weights on purpose, which is not told.
    """

    repository: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    partial: bool = False


class WatchRequest(NamedTuple):
    """What to look at.

    Attributes:
        upstream: Where.
        entries: Which repositories; None for all that are held. Those of other hubs are passed over.
        hub: Which hub ``upstream`` is.
        old_commits: Of how many commits that are no branch's any more to ask whether they are there.
    """

    upstream: WatchedUpstream
    entries: Sequence[WatchedEntry] | None = None
    hub: str = HUGGING_FACE
    old_commits: int = 1


class WatchedRepository(msgspec.Struct, frozen=True):
    """One repository: what came of looking at it, and what is new of it.

    ``changes`` were journalled now; at a first look most of them are no ``news``. ``nights``
    counts the days on which it was not shown. ``error`` says why there is no answer. ``head`` is
    the commit of the main branch as it was seen; ``branches`` and ``tags`` are all there are, each with its
    commit, None where they were not told.
    """

    repository: str
    outcome: Outcome
    changes: tuple[UpstreamChange, ...] = ()
    nights: int = 0
    status: int = 0
    error: str = ""
    hint: str = ""
    exit_code: int = 0
    head: str = ""
    branches: dict[str, str] | None = None
    tags: dict[str, str] | None = None

    @property
    def refs(self) -> dict[str, str]:
        """Branches and tags, each with its commit; of two of one name the branch."""
        name = RepositoryName.parse(self.repository).main_branch
        main = {name: self.head} if self.head else {}
        return {**(self.tags or {}), **main, **(self.branches or {})}

    @property
    def news(self) -> tuple[UpstreamChange, ...]:
        """What changed since it was seen before."""
        first = self.outcome == "first"
        return tuple(change for change in self.changes if is_news(change, first=first))

    @property
    def grave(self) -> bool:
        """Whether upstream lost something that was there."""
        return any(
            (change.what in GRAVE and (change.after or change.what != "disabled"))
            or change.history == "rewritten"
            for change in self.news
        )


class WatchReport(msgspec.Struct, frozen=True):
    """How a run went.

    ``requests`` counts all that were sent. ``control`` is what upstream answered besides where it did not
    show a repository; ``""`` if it was not asked. ``token_refused``: it does not take the token, and so
    nothing is known. ``old_commit`` is the one that was asked for, with its repository.
    """

    upstream: str
    repositories: tuple[WatchedRepository, ...]
    requests: int
    control: str = ""
    token_refused: bool = False
    old_commit: tuple[str, str] = ("", "")

    def count(self, outcome: Outcome) -> int:
        """Return how many repositories came out so."""
        return Counter(entry.outcome for entry in self.repositories)[outcome]

    @property
    def exit_code(self) -> int:
        """23 if upstream lost something, or refuses the token; 30 if it was not reached; 3: in part."""
        if self.token_refused or any(entry.grave for entry in self.repositories):
            return int(ExitCode.UPSTREAM_GONE)
        codes = [entry.exit_code for entry in self.repositories if entry.exit_code]
        if not codes:
            return 0
        same = len(codes) == len(self.repositories) and len(set(codes)) == 1
        return codes[0] if same else int(ExitCode.PARTIAL)


class WatchProgress:
    """Receives how far a run is; what shows it is a kind of it."""

    def looking(self, repository: str, number: int, total: int) -> None:
        """A repository is looked at now, the ``number``-th of ``total``."""


def entries_of(archive: Archive, plan: Plan) -> list[WatchedEntry]:
    """Return the repositories of a plan; of its patterns, authors and collections what they last stood for.

    That was journalled by the run that asked upstream; without one they stand for nothing.
    """
    return [
        WatchedEntry(entry.repository, entry.include, entry.exclude, entry.partial)
        for entry in planned_entries(archive, plan)
    ]


def watched_hubs(archive: Archive, entries: Iterable[WatchedEntry] | None) -> list[str]:
    """Return the hubs that the entries, or else all that is held, come from, if they can be watched."""
    if entries is None:
        snapshots = archive.snapshots(on_damage=skip_damaged)
        entries = (WatchedEntry(snapshot.seal.repository) for snapshot in snapshots)
    hubs = {RepositoryName.parse(entry.repository).hub for entry in entries}
    return [hub for hub in WATCHED if hub in hubs]


def watch(archive: Archive, request: WatchRequest, progress: WatchProgress) -> WatchReport:
    """Look at each repository, and journal what is new.

    Raise UnknownFormatError if the archive needs a newer writer, and what a full or read-only disk raises.
    """
    archive.require_writable()
    archive.store.require_writable()
    run = _Run(archive, request, progress)
    run.look_at_all()
    run.judge_unseen()
    run.ask_for_old_commits()
    return run.report()


class _Run:
    def __init__(self, archive: Archive, request: WatchRequest, progress: WatchProgress) -> None:
        self._archive = archive
        self._request = request
        self._upstream = request.upstream
        self._progress = progress
        self._before = request.upstream.requests
        self._history = UpstreamHistory(archive.standing_events())
        self._held: dict[str, list[Snapshot]] = {}
        for snapshot in archive.snapshots(on_damage=skip_damaged):
            self._held.setdefault(snapshot.seal.repository.casefold(), []).append(snapshot)
        self._entries = list(self._chosen())
        self._results: dict[str, WatchedRepository] = {}
        self._states: dict[str, RepositoryState] = {}
        """Those that were shown, without their files."""
        self._unseen: dict[str, UnseenRepository] = {}
        self._control = ""
        self._token_refused = False
        self._old_commit = ("", "")

    def _chosen(self) -> Iterable[WatchedEntry]:
        entries = self._request.entries
        if entries is None:
            held = sorted(self._held.values(), key=lambda found: found[0].seal.repository)
            entries = [WatchedEntry(snapshots[0].seal.repository) for snapshots in held]
        chosen: dict[str, WatchedEntry] = {}
        for entry in entries:
            if RepositoryName.parse(entry.repository).hub == self._request.hub:
                # Several entries of a plan may name one repository: it is looked at once.
                known = chosen.setdefault(entry.repository.casefold(), entry)
                if (known.include, known.exclude) != (entry.include, entry.exclude):
                    chosen[entry.repository.casefold()] = WatchedEntry(entry.repository)
        return chosen.values()

    # ---- looking

    def look_at_all(self) -> None:
        """Look at every repository, until there is no sense in going on."""
        unreachable = 0
        for number, entry in enumerate(self._entries, 1):
            self._progress.looking(entry.repository, number, len(self._entries))
            if self._token_refused or unreachable >= _UNREACHABLE:
                self._done(WatchedRepository(entry.repository, "not-tried", exit_code=30))
                continue
            try:
                state = self._upstream.look(entry.repository)
            except TokenError as error:
                self._token_refused = True
                self._done(_failed(entry.repository, error))
            except DisabledError as error:
                self._note_disabled(entry, error)
            except NetworkError as error:
                unreachable += 1
                self._done(_failed(entry.repository, error))
                continue
            except ArchiverError as error:
                self._note_refusal(entry, error)
            else:
                self._note_state(entry, state)
            unreachable = 0

    def _done(self, result: WatchedRepository) -> None:
        self._results[result.repository.casefold()] = result

    def _note_state(self, entry: WatchedEntry, state: RepositoryState) -> None:
        known = self._history.of(entry.repository)
        now = utc_now()
        first = not known.looked
        new = list(changes(known, state, now, self._facts(entry.repository) if first else None))
        moved = first or state.head != known.refs.get(("branch", state.main_branch), "")
        if state.files is None and moved:
            state = self._with_files(entry, state, new)
        new = self._with_evidence(state, new)
        if not entry.partial:
            left_out = weights_left_out(known, state, entry.include, entry.exclude)
            if left_out and not known.repeats(left_out, now):
                new.append(left_out)
        self._journal(entry.repository, new, first=first)
        outcome: Outcome = "first" if first else "changed" if new else "same"
        self._states[entry.repository.casefold()] = msgspec.structs.replace(state, files=None)
        listed = (state.branches, state.tags) if state.lists_refs else (None, None)
        branches, tags = (dict(refs) if refs is not None else None for refs in listed)
        self._done(
            WatchedRepository(
                entry.repository,
                outcome,
                tuple(new),
                head=state.head,
                branches=branches,
                tags=tags,
            )
        )

    def _journal(
        self, repository: str, new: Sequence[UpstreamChange], *, first: bool = False
    ) -> None:
        if not new and not first:
            return
        changed = UpstreamChanged(self._upstream.endpoint, tuple(new), first)
        event = new_event(changed, repository)
        digest = self._archive.record(event)
        self._history.of(repository).add(event.time, digest, changed)

    def _facts(self, repository: str) -> HeldFacts:
        """Return what the newest snapshot that upstream vouched for says of it, for a first look."""
        held = [
            snapshot for snapshot in self._held.get(repository.casefold(), ()) if snapshot.sealed
        ]
        for snapshot in sorted(held, key=lambda snapshot: snapshot.seal.sealed, reverse=True):
            with suppress(ArchiverError):
                source = self._archive.manifest_facts(snapshot.seal).source
                if source.upstream == self._request.hub:
                    return HeldFacts(source.licence, source.id)
        return HeldFacts()

    # ---- what a branch that moved means

    def _with_files(
        self, entry: WatchedEntry, state: RepositoryState, new: Sequence[UpstreamChange]
    ) -> RepositoryState:
        """Return the state with the files of its main branch, where they say something that is told.

        A hub may describe a repository without its files; then its newest commit is listed.
        """
        before = [change.before for change in new if change.what == "branch"]
        held = any(self._files_of(state.asked, commit) for commit in before if commit)
        patterns = not entry.partial and bool(entry.include or entry.exclude)
        if not state.head or not (held or patterns):
            return state
        with suppress(ArchiverError):  # then the move alone is told
            listing = self._upstream.list(state.repository, state.head)
            files = [
                UpstreamFile(file.path, file.size, file.oid, file.sha256) for file in listing.files
            ]
            return msgspec.structs.replace(state, files=tuple(files))
        return state

    def _with_evidence(
        self, state: RepositoryState, new: list[UpstreamChange]
    ) -> list[UpstreamChange]:
        """Return the changes, with what can be found out of branches that moved."""
        moved = [
            change for change in new if change.what == "branch" and change.before and change.after
        ]
        main = state.main_branch
        moved.sort(key=lambda change: (change.name != main, change.name))
        evidence = {change.name: self._evidence(state, change) for change in moved[:_ASKED_MOVES]}
        return [evidence.get(change.name, change) if change in moved else change for change in new]

    def _evidence(self, state: RepositoryState, change: UpstreamChange) -> UpstreamChange:
        """Return the change of a branch, with whether it was rewritten and what it means for its files."""
        if (
            change.name == state.main_branch
            and change.after == state.head
            and state.files is not None
        ):
            files = self._files_of(state.asked, change.before)
            if files is not None:
                old, patterns = files
                chosen = [file for file in state.files if _chosen(file.path, *patterns)]
                change = msgspec.structs.replace(change, files=file_changes(old, chosen))
        replace = msgspec.structs.replace
        # What cannot be told now is not told: the move itself is.
        with suppress(ArchiverError):
            follows = self._upstream.follows(state.repository, change.after, change.before)
            if follows:
                return replace(change, history="continued")
            if not self._upstream.has_commit(state.repository, change.before):
                return replace(change, history="rewritten", status=404, code="RevisionNotFound")
            if follows is False:
                return replace(change, history="rewritten")
        return change

    def _files_of(
        self, repository: str, commit: str
    ) -> tuple[list[UpstreamFile], tuple[tuple[str, ...], tuple[str, ...]]] | None:
        """Return the files that are held of a commit, and the patterns that chose them; None if none."""
        held = [
            snapshot
            for snapshot in self._held.get(repository.casefold(), ())
            if snapshot.seal.revision == commit and snapshot.seal.selection.known
        ]
        if not held:
            return None
        with suppress(ArchiverError):
            seal = self._archive.preferred(held).seal
            facts = self._archive.manifest_facts(seal)
            files = [
                UpstreamFile(file.path, file.size, file.oid, file.sha256) for file in facts.files
            ]
            return files, (seal.selection.include, seal.selection.exclude)
        return None

    # ---- what is not shown

    def _note_disabled(self, entry: WatchedEntry, error: DisabledError) -> None:
        known = self._history.of(entry.repository)
        before = known.attributes.get("disabled", "")
        change = UpstreamChange(
            "disabled", before=before, after="disabled", status=error.status, code=error.code
        )
        new = [change] if not before and not known.repeats(change, utc_now()) else []
        if known.looked or entry.repository.casefold() in self._held:
            self._journal(entry.repository, new)
        self._done(WatchedRepository(entry.repository, "changed" if new else "same", tuple(new)))

    def _note_refusal(self, entry: WatchedEntry, error: ArchiverError) -> None:
        status = error.status if isinstance(error, UpstreamGoneError) else 0
        if not isinstance(error, UnseenError) and status not in _UNSEEN:
            self._done(_failed(entry.repository, error))
            return
        code = error.code if isinstance(error, UpstreamGoneError) else ""
        unseen = UnseenRepository(entry.repository, status, code)
        self._unseen[entry.repository.casefold()] = unseen

    def judge_unseen(self) -> None:
        """Journal which repositories were not shown, and which are called gone by now."""
        waiting = [unseen for key, unseen in self._unseen.items() if not self._history.of(key).gone]
        if waiting and not self._token_refused:
            try:
                # Where the hub has no such request, another repository stands for it.
                self._control = self._upstream.control() or self._first_seen()
            except TokenError:
                self._token_refused = True
            except ArchiverError:
                pass  # then nothing is known of these tonight
        noted = [unseen for unseen in self._unseen.values() if self._judge(unseen)]
        seen = [
            entry.repository
            for entry in self._entries
            if entry.repository.casefold() in self._states
            and self._history.of(entry.repository).unseen
        ]
        if noted or seen:
            detail = UpstreamUnseen(
                self._upstream.endpoint, self._control, tuple(noted), tuple(sorted(seen))
            )
            self._archive.record(new_event(detail))

    def _first_seen(self) -> str:
        shown = sorted(state.repository for state in self._states.values())
        return shown[0] if shown else ""

    def _judge(self, unseen: UnseenRepository) -> bool:
        """Say of one repository what came of it; return whether this night is to be journalled."""
        name = unseen.repository
        known = self._history.of(name)
        now = utc_now()
        nights = len(known.unseen)
        known_here = bool(known.looked or known.sighted or name.casefold() in self._held)
        if not self._control or known.gone or not known_here:
            outcome: Outcome = "gone" if known.gone else "unseen"
            self._done(WatchedRepository(name, outcome, nights=nights, status=unseen.status))
            return False
        gone = verdict(known, unseen, self._control, now)
        if gone is not None:
            self._journal(name, [gone])
            nights = len(gone.since)
            self._done(WatchedRepository(name, "gone", (gone,), nights, unseen.status))
            return False
        is_new = not is_noted(known, now)
        self._done(WatchedRepository(name, "unseen", nights=nights + is_new, status=unseen.status))
        return is_new

    # ---- old commits

    def ask_for_old_commits(self) -> None:
        """Ask whether commits that no branch and no tag points at are still there, each in its turn."""
        for _ in range(self._request.old_commits):
            turn = commit_to_ask(self._old_commits(), utc_now())
            if turn is None:
                return
            key, commit = turn
            self._old_commit = (self._results[key].repository, commit)
            state = self._states[key]
            try:
                there = self._upstream.has_commit(state.repository, commit)
            except ArchiverError:
                return  # another night
            if not there:
                self._note_lost(key, commit)

    def _old_commits(self) -> Iterable[tuple[str, set[str]]]:
        for key, state in self._states.items():
            if state.disabled:
                continue
            known = self._history.of(key)
            commits = set(known.commits) | set(self._held_commits(key))
            yield key, commits - set(known.lost) - set(state.refs.values())

    def _held_commits(self, key: str) -> Iterable[str]:
        """Yield the commits that are held and that upstream, when it was asked, had."""
        for snapshot in self._held.get(key, ()):
            vouching = self._archive.vouching(snapshot)
            if vouching is not None and vouching.least >= Voucher.UPSTREAM:
                yield snapshot.seal.revision

    def _note_lost(self, key: str, commit: str) -> None:
        result = self._results[key]
        lost = UpstreamChange("commit-lost", before=commit, status=404, code="RevisionNotFound")
        self._journal(result.repository, [lost])
        outcome: Outcome = "first" if result.outcome == "first" else "changed"
        self._results[key] = msgspec.structs.replace(
            result, outcome=outcome, changes=(*result.changes, lost)
        )

    def report(self) -> WatchReport:
        """Return what came of it."""
        return WatchReport(
            upstream=self._upstream.endpoint,
            repositories=tuple(
                self._results[entry.repository.casefold()] for entry in self._entries
            ),
            requests=self._upstream.requests - self._before,
            control=self._control,
            token_refused=self._token_refused,
            old_commit=self._old_commit,
        )


def _failed(repository: str, error: ArchiverError) -> WatchedRepository:
    outcome: Outcome = "unreachable" if isinstance(error, NetworkError) else "failed"
    return WatchedRepository(
        repository,
        outcome,
        error=error.message,
        hint=error.hint,
        exit_code=int(error.exit_code),
    )


def _chosen(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Return whether a snapshot with these patterns has a file, as mirroring chooses it."""
    fits = not include or any(fnmatchcase(path, pattern) for pattern in include)
    return fits and not any(fnmatchcase(path, pattern) for pattern in exclude)
