"""Checking an archive: whether it holds what its seals say, and everything that it does not.

``check_archive`` is the order of the steps. Every pack is read once, front to back; several are read at a
time. Memory is a few buffers a thread and 32 bytes an object. Nothing is written.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from archiver.archive import layout
from archiver.archive.check.contradictions import contradiction_findings
from archiver.archive.check.documents import (
    JournalCheck,
    SealCheck,
    check_explanations,
    check_info,
    check_names,
    check_place,
    check_writers,
)
from archiver.archive.check.files import FileCheck
from archiver.archive.check.impact import StoredObjects, check_snapshots
from archiver.archive.check.packs import (
    PackCheck,
    expected_packs,
    missing_pack_findings,
    rehash_findings,
    unsealed_packs,
)
from archiver.archive.check.result import CheckRequest, CheckResult, Findings
from archiver.archive.check.schedule import UNLIMITED, Schedule, portions_of
from archiver.archive.check.sidecars import parity_findings, signature_findings
from archiver.archive.findings import Code, Finding
from archiver.archive.policy import proves
from archiver.errors import DeniedError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from archiver.archive.advice import Advice
    from archiver.archive.archive import Archive
    from archiver.archive.check.pack_reading import ExpectedPack, PackResult
    from archiver.archive.check.schedule import Portion
    from archiver.progress import Progress
    from archiver.storage.store import Store


def _ignore(_result: PackResult) -> None:
    """Nobody is told."""


def check_archive(
    archive: Archive,
    request: CheckRequest,
    progress: Progress,
    on_pack: Callable[[PackResult], None] = _ignore,
) -> CheckResult:
    """Check an archive, or some of its snapshots; ``on_pack`` is told of each pack once it was read.

    Raise UsageError if there is no such snapshot, or a key is none.
    """
    store, schedule, findings = archive.store, Schedule(request.limits), Findings(archive.store)
    complete, documents = request.complete, request.complete and request.documents

    # Seals before all else: they say which packs and manifests there must be.
    seals = SealCheck(archive, findings)
    snapshots = seals.chosen(request.repository, request.revision)
    every = snapshots
    if not complete:
        # The chosen ones may all have come from another archive, and name that one.
        every = list(archive.snapshots(on_damage=skip_damaged))
    check_info(store, every, findings)

    # The journal before the packs: what was proven longest ago is read first. It is judged after them.
    packs = expected_packs(snapshots)
    if complete:
        packs += unsealed_packs(archive, packs)
    journal = JournalCheck(archive, findings)
    proofs = journal.read(complete=documents)

    # What is due, as far as the limits let it; the files of a snapshot after its packs, which are proven
    # then. All the rest is looked at by structure: a pack that is gone is never left out.
    pack_check = PackCheck(
        store,
        findings.advice,
        findings.all,
        progress,
        request.memory,
        on_pack,
        rehash=request.rehash,
    )
    file_check = FileCheck(archive, schedule, progress, request.memory)
    due: set[str] = set()
    if request.level == "structure":
        progress.expect(len(packs), 0)
    else:
        portions = portions_of(request.level, schedule, proofs, packs, snapshots)
        due = {pack.pack for portion in portions.due for pack in portion.packs}
        file_check.complete = len(portions.due) == len(portions.drawn)
        _expect(archive, portions.drawn, progress)
        for portion, snapshot in portions.drawn:
            unchecked = pack_check.unchecked(portion)
            affordable = schedule.affordable(unchecked, partial(_size, archive))
            pack_check.check(affordable, request.level)
            if snapshot:
                file_check.check(snapshot)
    unread = pack_check.unchecked(packs)
    pack_check.check(unread, "structure", shown=request.level == "structure")

    # Missing packs once all are known, because many of them are one finding.
    results = pack_check.results
    findings.all += (
        *_missing_pack_findings(store, results, findings.advice),
        *rehash_findings(results.values(), journal.rehashed, findings.advice),
    )

    # Manifests after all packs: an object may be whole in another pack than the one where it should be.
    check_snapshots(
        archive,
        snapshots,
        StoredObjects(archive, results, complete=complete),
        file_check.differing,
        findings,
    )
    check_writers(snapshots, results, findings)
    findings.all += contradiction_findings(
        archive, snapshots, append_only=journal.policy.append_only
    )

    # What is no snapshot's alone.
    journal.check_heads(request.heads)
    deep = documents and proves(request.level, "stored") and request.limits == UNLIMITED
    if documents:
        journal.check_chain(snapshots)
        check_explanations(store, findings)
        check_place(store, findings)
        check_names(store, snapshots, findings)
        findings.all += parity_findings(archive, deep=deep, progress=progress)
        findings.all += signature_findings(archive, request.keys or journal.policy.keys)

    # At last: what could not be listed explains what seemed to be missing until now, and what was set aside
    # may still lie where it was put.
    ordered = sorted(
        _with_places(store, _explain_unreadable(store, set(findings.all), findings.advice)),
        key=_rank,
    )

    readable = [result for result in results.values() if result.readable]
    left = {pack.pack for pack in unread}
    recent = left - due if request.level != "structure" else set()
    lost_seals = {finding.path for finding in ordered if finding.code == "seal-missing"}
    return CheckResult(
        snapshots=seals.named + len(lost_seals),
        packs=len(readable),
        objects=sum(result.objects for result in readable),
        bytes=sum(result.size for result in readable if result.level != "structure"),
        findings=tuple(ordered),
        sealed=tuple(snapshots),
        pack_results=tuple(results.values()),
        files=tuple(file_check.proven),
        remaining=len(due & left),
        complete=not due & left and file_check.complete,
        recent=sum(results[pack].whole for pack in recent),
        rehashed=journal.rehashed,
        checked=("documents", *(("parity",) if deep else ())) if documents else (),
        policy=journal.policy,
    )


def _size(archive: Archive, pack: ExpectedPack) -> int:
    try:
        return archive.store.stat(pack.name) or 0
    except DeniedError:
        return 0  # whoever reads it will say so


def _expect(archive: Archive, portions: Iterable[Portion], progress: Progress) -> None:
    packs = {pack.pack: _size(archive, pack) for portion in portions for pack in portion.packs}
    files = sum(portion.snapshot.seal.totals.bytes for portion in portions if portion.snapshot)
    progress.expect(len(packs), sum(packs.values()) + files)


# ---- findings that explain one another, and their order

_ORDER: Final = {code: number for number, code in enumerate(get_args(Code))}
_SET_ASIDE: Final = (layout.QUARANTINE, layout.TRASH)
_MISSING: Final = {"pack-missing", "manifest-missing", "seal-missing"}


def _explain_unreadable(store: Store, findings: set[Finding], advice: Advice) -> set[Finding]:
    """Return the findings with the folders that may not be listed instead of what is missing in them."""
    folders = store.passed_over()
    explained = {
        finding for finding in findings if any(_hides(folder, finding) for folder in folders)
    }
    return (findings - explained) | {
        Finding(
            "file-unreadable",
            f"{folder} cannot be listed: {why}.",
            folder,
            actions=advice.make_readable(),
        )
        for folder, why in folders.items()
    }


def _hides(folder: str, finding: Finding) -> bool:
    """Return whether what seems to be missing may lie in a folder that cannot be listed."""
    if finding.code == "event-missing":
        return folder.partition("/")[0] == layout.JOURNAL
    return finding.code.endswith("-missing") and finding.path.startswith(f"{folder}/")


def _missing_pack_findings(
    store: Store, results: Mapping[str, PackResult], advice: Advice
) -> Iterator[Finding]:
    missing = [result for result in results.values() if result.missing]
    if not missing:
        return
    # Of these a finding says more than that: where they lie now, or which folder cannot be listed.
    explained = set(_set_aside(store))
    if any(folder.startswith(layout.PACKS) for folder in store.passed_over()):
        explained |= {result.expected.name for result in missing}
    yield from missing_pack_findings(missing, advice, explained)


def _set_aside(store: Store) -> dict[str, str]:
    """Return name before -> name now; what was put into the trash counts before quarantine."""
    names = (name for folder in _SET_ASIDE for name in store.list(folder))
    set_aside = ((layout.quarantined_of(name), name) for name in names)
    return {before.name: name for before, name in set_aside if before}


def _with_places(store: Store, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Return the findings; those of missing files say where the file was set aside, if it was."""
    places: dict[str, str] | None = None
    for finding in findings:
        if finding.code not in _MISSING:
            yield finding
            continue
        if places is None:
            places = _set_aside(store)
        path = layout.pack_name(finding.pack) if finding.pack else finding.path
        yield msgspec.structs.replace(finding, set_aside=places.get(path, ""))


def _rank(finding: Finding) -> tuple[bool, int, tuple[str, ...], str, str, str]:
    return (
        finding.remark,
        _ORDER[finding.code],
        finding.snapshots,
        finding.path,
        finding.pack,
        finding.object,
    )
