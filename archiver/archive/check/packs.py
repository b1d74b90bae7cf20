"""The packs that an audit looks at: which there should be, many read at once, and what is wrong with them.

How one is read is in ``pack_reading``. ``pack_findings`` says what is wrong with a pack as a file; what its
damaged objects mean for files and tensors is judged in ``impact``, once all packs are known.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Final

from archiver.archive.check.pack_reading import ExpectedPack, PackResult, check_pack
from archiver.archive.findings import Code, Finding
from archiver.archive.layout import pack_name
from archiver.archive.packs.format import STORED_MAX
from archiver.archive.packs.reader import DECODER_BYTES
from archiver.progress import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from archiver.archive.advice import Advice
    from archiver.archive.archive import Archive
    from archiver.archive.check.pack_reading import Advance
    from archiver.archive.policy import Level
    from archiver.archive.seals import Snapshot
    from archiver.memory import MemoryBudget
    from archiver.progress import Progress
    from archiver.storage.store import Store


def expected_packs(snapshots: Iterable[Snapshot]) -> list[ExpectedPack]:
    """Return every pack that the snapshots need, in order."""
    sizes: dict[str, frozenset[int]] = {}
    titles: dict[str, list[str]] = {}
    # What is equal is shared: seals can name packs by the hundred thousand.
    shared_sizes: dict[frozenset[int], frozenset[int]] = {}
    shared_titles: dict[tuple[str, ...], tuple[str, ...]] = {}
    for snapshot in snapshots:
        title = snapshot.title
        for pack, size in snapshot.seal.packs:
            known = sizes.get(pack, frozenset())
            if size not in known:
                more = known | {size}
                sizes[pack] = shared_sizes.setdefault(more, more)
            titles.setdefault(pack, []).append(title)
    expected = []
    for pack in sorted(sizes):
        unique = tuple(dict.fromkeys(titles.pop(pack)))
        expected.append(ExpectedPack(pack, sizes[pack], shared_titles.setdefault(unique, unique)))
    return expected


def unsealed_packs(archive: Archive, expected: Iterable[ExpectedPack]) -> list[ExpectedPack]:
    """Return every pack that is stored and not expected: nobody is known to need it."""
    known = {pack.pack for pack in expected}
    return [ExpectedPack(pack, frozenset(), ()) for pack in archive.packs() if pack not in known]


# ---- many packs

_POLL_SECONDS: Final = 0.5


class PackCheck:
    """Checks packs, each at most once; what is wrong with them is added to ``findings``.

    ``on_pack`` is told of each as soon as it was read.
    """

    def __init__(
        self,
        store: Store,
        advice: Advice,
        findings: list[Finding],
        progress: Progress,
        memory: MemoryBudget,
        on_pack: Callable[[PackResult], None],
        *,
        rehash: bool = False,
    ) -> None:
        """Take the SHA-256 of packs that are read whole too, if ``rehash`` says so."""
        self._store = store
        self._rehash = rehash
        self._advice = advice
        self._findings = findings
        self._progress = progress
        self._memory = memory
        self._on_pack = on_pack
        self.results: dict[str, PackResult] = {}

    def unchecked(self, packs: Iterable[ExpectedPack]) -> list[ExpectedPack]:
        """Return those that were not read yet."""
        return [pack for pack in packs if pack.pack not in self.results]

    def check(self, packs: Iterable[ExpectedPack], level: Level, *, shown: bool = True) -> None:
        """Check packs that were not read yet, several at a time; ``shown`` in the progress.

        The next of ``packs`` is taken only when a thread is free for it, so that they may end at any time.
        """
        stop = threading.Event()

        def advance(size: int) -> None:
            if stop.is_set():
                raise StoppedError
            self._progress.advance(size, fetched=True)

        workers = self._memory.workers(DECODER_BYTES + STORED_MAX)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="audit")
        new = (pack for pack in packs if pack.pack not in self.results)
        running: set[Future[PackResult]] = set()
        try:
            while True:
                for pack in islice(new, workers + 1 - len(running)):
                    running.add(self._submit(pool, pack, advance, level))
                if not running:
                    return
                done, running = wait(running, _POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    self._note(future.result(), shown=shown)
        finally:
            # Also if anything interrupts: its threads must not read on behind an error.
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self, pool: ThreadPoolExecutor, pack: ExpectedPack, advance: Advance, level: Level
    ) -> Future[PackResult]:
        rehash = self._rehash
        return pool.submit(check_pack, self._store, pack, advance, level, rehash=rehash)

    def _note(self, result: PackResult, *, shown: bool) -> None:
        self.results[result.pack] = result
        if not result.missing:  # those are judged together, once all are known
            self._findings += pack_findings(result, self._advice)
        self._on_pack(result)
        if shown:
            self._progress.end(pack_name(result.pack))


# ---- findings

_SINGLE_MAX: Final = 1000
"""So many missing packs that the same snapshots need are a finding each."""


def pack_findings(result: PackResult, advice: Advice) -> Iterator[Finding]:
    """Yield what is wrong with a pack as a file; its objects are judged with the files that they hold."""
    expected = result.expected
    for code, message in _faults(result):
        actions = advice.copy_back(expected.name, code)
        if code == "read-unstable":
            actions = advice.unstable()
        elif code == "file-unreadable":
            actions = advice.make_readable()
        elif code == "not-understood":
            actions = ()
        yield Finding(
            code,
            message,
            expected.name,
            pack=expected.pack,
            snapshots=expected.snapshots,
            actions=actions,
        )
    if not expected.snapshots:
        text = f"No seal needs pack {expected.pack}: a run was interrupted, or its seal is lost."
        yield Finding("unsealed-pack", text, expected.name, pack=expected.pack)


def rehash_findings(
    results: Iterable[PackResult], known: Mapping[str, str], advice: Advice
) -> Iterator[Finding]:
    """Yield the packs that have the BLAKE3 of their name, and another SHA-256 than was journalled."""
    for result in results:
        journalled = known.get(result.pack, result.sha256)
        if result.whole and result.sha256 and result.sha256 != journalled:
            name = result.expected.name
            text = (
                f"{name} has the SHA-256 {result.sha256}, and the journal says {journalled}: one of the "
                "two was forged, though its BLAKE3 is right."
            )
            actions = advice.copy_back(name, "pack-damaged")
            snapshots = result.expected.snapshots
            yield Finding(
                "pack-damaged", text, name, pack=result.pack, snapshots=snapshots, actions=actions
            )


def missing_pack_findings(
    missing: Iterable[PackResult], advice: Advice, explained: Container[str]
) -> Iterator[Finding]:
    """Yield what is missing: a finding for each pack, or one for many that the same snapshots need.

    A finding each takes 1.5 KB, and seals can name packs by the hundred thousand. A pack whose name is
    ``explained`` has one of its own all the same.
    """
    groups: dict[tuple[str, ...], list[PackResult]] = {}
    for result in missing:
        groups.setdefault(result.expected.snapshots, []).append(result)
    for snapshots, results in groups.items():
        several = [result for result in results if result.expected.name not in explained]
        grouped = len(several) > _SINGLE_MAX
        for result in results:
            if not grouped or result.expected.name in explained:
                yield from pack_findings(result, advice)
        if grouped:
            packs = tuple(sorted(result.pack for result in several))
            message, actions = many_missing(packs), advice.bring_back_packs("pack-missing")
            yield Finding(
                "pack-missing", message, packs=packs, snapshots=snapshots, actions=actions
            )


def many_missing(packs: Sequence[str]) -> str:
    """Return the sentence that many packs are missing."""
    return f"{len(packs):,} packs are missing, {pack_name(packs[0])} among them."


def _faults(result: PackResult) -> Iterator[tuple[Code, str]]:
    name, sizes = result.expected.name, result.expected.sizes
    if result.unstable:
        yield "read-unstable", result.unstable
    if result.denied:
        yield "file-unreadable", result.problem
    elif result.missing:
        yield "pack-missing", f"{name} is missing."
    elif not result.readable:
        yield "pack-damaged", result.problem
    elif sizes and result.size not in sizes:
        # A pack of another size has another digest and has lost its index: that goes without saying.
        said = " or ".join(f"{size:,}" for size in sorted(sizes))
        yield "pack-size", f"{name} has {result.size:,} bytes, its seals say {said}."
    else:
        if result.level != "structure" and result.blake3 != result.pack:
            reason = result.problem or "its bytes have another digest than its name"
            yield "pack-damaged", f"{name} is damaged: {reason}."
        if result.not_understood:
            yield "not-understood", result.not_understood
        if result.index:
            yield "index-damaged", f"{name}: {result.index}"
