"""What each stage of the way in and out costs, and what limits them on larger machines.

Each stage is measured by itself in one thread. The model then asks, for a number of cores and of files at
once, which comes to its limit first: all cores together, the threads that the budget of memory has room
for, a thread that each file has for itself, or one that all files share. It knows nothing of memory
bandwidth, disks and links: those are further limits.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import data
import numpy as np
from blake3 import blake3
from measure import scratch
from table import Check

from archiver.archive.decode import decoder_workers
from archiver.archive.destination import writing
from archiver.archive.ingest.object_store import PACKS_OPEN
from archiver.archive.ingest.pipeline import ENCODER_BYTES, SHARED_BYTES
from archiver.codec.segment import SEGMENT_MAX, Effort, decode, encode
from archiver.codec.zstd import InMemory
from archiver.digest import blake3_hex
from archiver.memory import BUDGET, MemoryBudget, keep_freed_blocks, resident_bytes
from archiver.storage.direct import BLOCK_ALIGN
from archiver.storage.staging import LocalStaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from table import Report

    from archiver.codec.segment import EncodedObject

INPUT: Final = {False: "dense-2gb", True: "dense-0.2gb"}
SEGMENTS: Final = {False: 12, True: 6}
REPEATS: Final = 3
CORES: Final = (2, 16, 64)
FILES: Final = (1, 4)
POOL, FILE, ALL = "all cores", "a thread of each file", "a thread of all files"
BUDGETED = "threads that fit the budget"
STARTED: Final = 45_000_000
"""Bytes that `import` and `restore` hold before they count what room there is for threads: 42 to 44 MB."""
SHARED_MOST: Final = 0.15
"""CPU seconds a GB that a thread which all files share may cost."""
TARGETS: Final = {("restore", "normal"): 5.0, ("import", "fast"): 2.5, ("import", "normal"): 2.2}
"""GB/s that four files should reach on 16 cores."""


class Stage(NamedTuple):
    """A stage: CPU seconds for a GB of plain bytes, and which thread does it.

    ``scope`` is POOL, FILE or ALL; stages with the same ``thread`` follow each other in it. Of ALL there
    may be several ``at_once``.
    """

    name: str
    seconds: float
    scope: str
    thread: str
    at_once: int = 1


class Limit(NamedTuple):
    """The rate in GB/s that one limit leaves, and what it is."""

    rate: float
    what: str


def workers_of(verb: str, cores: int) -> int:
    """Return how many threads decode or encode, within the budget that a run has by itself."""
    memory = MemoryBudget(BUDGET + resident_bytes() - STARTED, cores)
    return (
        decoder_workers(memory)
        if verb == "restore"
        else memory.workers(ENCODER_BYTES, SHARED_BYTES)
    )


def first_limit(stages: list[Stage], cores: int, files: int, workers: int) -> Limit:
    """Return what is reached first."""
    limits = [Limit(cores / sum(stage.seconds for stage in stages), POOL)]
    pooled = sum(stage.seconds for stage in stages if stage.scope == POOL)
    limits.append(Limit(workers / pooled, f"{workers} {BUDGETED}"))
    threads: dict[tuple[str, str], list[Stage]] = defaultdict(list)
    for stage in stages:
        if stage.scope != POOL:
            threads[stage.scope, stage.thread].append(stage)
    for (scope, thread), group in threads.items():
        seconds = sum(stage.seconds / stage.at_once for stage in group)
        limits.append(Limit((files if scope == FILE else 1) / seconds, f"{scope}: {thread}"))
    return min(limits)


def run(report: Report, *, small: bool) -> None:
    """Measure the stages and tell what the model says."""
    item = data.get(INPUT[small])
    data.touch(item)
    keep_freed_blocks()  # as every run does at its start
    with scratch() as work:
        measured = _measure(item.file, SEGMENTS[small], work)
    for stages in measured.values():
        for stage in stages:
            if stage.scope == ALL:
                seconds = stage.seconds / stage.at_once
                what = f"{stage.name}, which {stage.at_once} at once do for all files"
                report.checks.append(Check(what, seconds, SHARED_MOST, " s/GB"))
    for (verb, effort), least in TARGETS.items():
        rate, what = first_limit(measured[verb, effort], 16, 4, workers_of(verb, 16))
        name = f"{verb} of four files at {effort} with 16 cores, by the model"
        report.checks.append(Check(name, rate, least, " GB/s", at_least=True, note=what))
    costs = [
        [verb, effort, stage.name, f"{stage.seconds:.2f}", stage.scope, stage.thread]
        for (verb, effort), stages in measured.items()
        for stage in stages
    ]
    names = ["way", "effort", "stage", "CPU s/GB", "done by", "which"]
    report.tables.append(("Stages", names, costs))
    rows = []
    for (verb, effort), stages in measured.items():
        for files in FILES:
            limits = [first_limit(stages, cores, files, workers_of(verb, cores)) for cores in CORES]
            cells = [f"{limit.rate:.2f} ({limit.what})" for limit in limits]
            rows.append([verb, effort, str(files), *cells])
    heads = ["way", "effort", "files at once", *(f"GB/s with {cores} cores" for cores in CORES)]
    report.tables.append(("Stage model: the rate, and what limits it", heads, rows))
    report.raw["stages"] = {" ".join(key): stages for key, stages in measured.items()}


def _measure(path: Path, segments: int, work: Path) -> dict[tuple[str, str], list[Stage]]:
    """Return the stages of each way and effort."""
    plain = [_aligned(SEGMENT_MAX) for _ in range(segments)]
    size = segments * SEGMENT_MAX
    with path.open("rb", buffering=0) as file:
        begin = path.stat().st_size - size - SEGMENT_MAX  # weights, not the header

        def read() -> None:
            file.seek(begin)
            for buffer in plain:
                file.readinto(buffer.data)

        cost = _costs(size, {"read": read, **_hashes(plain)})
    result = {}
    target, out = work / "pack", np.empty(SEGMENT_MAX, np.uint8)
    for effort in Effort:
        encoded = [encode(buffer, "BF16", effort) for buffer in plain]
        coded = _costs(
            size,
            {
                "encode": lambda effort=effort: _encode(plain, effort),
                "pack": lambda encoded=encoded: _pack_hash(encoded),
                "write": lambda encoded=encoded: _write(work, encoded),
                "fetch": lambda: _fetch(target),
                "decode": lambda encoded=encoded: _decode(encoded, out),
                "restore": lambda: _restore(work / "file", plain),
            },
        )
        result["import", effort.value] = [
            Stage("read", cost["read"], FILE, "reading"),
            Stage("SHA-256 of the file", cost["sha256"], FILE, "SHA-256"),
            Stage("BLAKE3 of the file", cost["blake3"], FILE, "BLAKE3"),
            Stage("BLAKE3 of objects", cost["object"], POOL, "encoding"),
            Stage("encode, decode and compare", coded["encode"], POOL, "encoding"),
            Stage("write packs", coded["write"], ALL, "packs", PACKS_OPEN),
            Stage("BLAKE3 of packs", coded["pack"], ALL, "packs", PACKS_OPEN),
        ]
        result["restore", effort.value] = [
            Stage("read packs", coded["fetch"], POOL, "decoding"),
            Stage("decode, with BLAKE3 of objects", coded["decode"], POOL, "decoding"),
            Stage("write", coded["restore"], POOL, "decoding"),
            Stage("SHA-256 of the file", cost["sha256"], FILE, "hashing"),
        ]
    return result


def _costs(size: int, stages: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the least CPU seconds a GB of each, all of them in turn: other work only adds to it."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(REPEATS):
        for name, stage in stages.items():
            begin = time.process_time()
            stage()
            seconds[name].append((time.process_time() - begin) / size * 1e9)
    return {name: min(values) for name, values in seconds.items()}


def _hashes(plain: list[np.ndarray]) -> dict[str, Callable[[], None]]:
    def sha256() -> None:
        hasher = hashlib.sha256()
        for buffer in plain:
            hasher.update(buffer.data)

    def file() -> None:
        hasher = blake3()
        for buffer in plain:
            hasher.update(buffer.data)

    def objects() -> None:
        for buffer in plain:
            blake3_hex(buffer.data)

    return {"sha256": sha256, "blake3": file, "object": objects}


def _encode(plain: list[np.ndarray], effort: Effort) -> None:
    for buffer in plain:
        encode(buffer, "BF16", effort, blake3_hex(b"known already"))


def _pack_hash(encoded: list[EncodedObject]) -> None:
    hasher = blake3()
    for stored in encoded:
        for piece in stored.pieces:
            hasher.update(piece)


def _write(root: Path, encoded: list[EncodedObject]) -> None:
    """Write a pack where packs are written; it stays for ``_fetch``."""
    staged = LocalStaged.begin(root, "pack")
    for stored in encoded:
        staged.write(*stored.pieces)
    staged.path.replace(root / "pack")
    staged.keep()


def _fetch(target: Path) -> None:
    buffer = bytearray(SEGMENT_MAX)
    with target.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _decode(encoded: list[EncodedObject], out: np.ndarray) -> None:
    for stored in encoded:
        decode(stored.header, InMemory(*stored.pieces), out)


def _restore(target: Path, plain: list[np.ndarray]) -> None:
    with writing(target) as file:
        for number, buffer in enumerate(plain):
            file.write_at(number * SEGMENT_MAX, buffer.data)


def _aligned(size: int) -> np.ndarray:
    """Return a buffer that begins at a block, as those that are decoded into do."""
    whole = np.empty(size + BLOCK_ALIGN, np.uint8)
    begin = -whole.ctypes.data % BLOCK_ALIGN
    return whole[begin : begin + size]
