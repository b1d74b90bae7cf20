"""The sheet of a bundle, which a security officer reads and signs, and the sums of a volume.

They are made from what the archive holds, and are the same whenever they are made of the same.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.archive.bundles.records import (
    BUNDLE,
    START,
    SUMS,
    TOOLS_VOLUME,
    VOLUME,
    folder_of,
    stored_name,
)
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.bundles.records import Bundle, StoredFile
    from archiver.archive.records import ManifestFacts
    from archiver.archive.seals import Snapshot

_SHOWN: Final = 2_000
"""Files of a snapshot that the sheet lists; their manifest lists all."""
_CODE: Final = frozenset(
    {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".cmd", ".ps1", ".js", ".mjs",
     ".jar", ".class", ".wasm", ".whl", ".zip", ".tar", ".gz", ".ipynb", ".html", ".htm", ".svg", ".php",
     ".rb", ".pl", ".lua", ".com", ".msi", ".scr", ".vbs"}
)  # fmt: skip
_PICKLED: Final = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras"}
)
"""Files that some programs run code from while they load them."""


class Subject(NamedTuple):
    """A snapshot with what its manifest says."""

    snapshot: Snapshot
    facts: ManifestFacts
    vouched: str
    """Who vouched for its files, in words."""


def subjects_of(archive: Archive, snapshots: Sequence[Snapshot]) -> list[Subject]:
    """Return the snapshots with what the sheet says of them."""
    subjects = []
    for snapshot in snapshots:
        vouching = archive.vouching(snapshot)
        words = []
        if vouching is not None:
            counts = (
                (vouching.upstream, "the hub that it came from"),
                (vouching.pin, "a published pin"),
                (vouching.cache, "a cache's own record"),
                (vouching.nobody, "nobody"),
            )
            words = [f"{plural(count, 'file')} by {who}" for count, who in counts if count]
        subjects.append(
            Subject(
                snapshot, archive.manifest_facts(snapshot.seal), ", ".join(words) or "not known"
            )
        )
    return subjects


def sheet_of(bundle: Bundle, subjects: Sequence[Subject]) -> bytes:
    """Return ``MANIFEST.md``: what is carried, from where, and what of it could be run."""
    return "\n".join(_sheet(bundle, subjects)).encode() + b"\n"


def _sheet(bundle: Bundle, subjects: Sequence[Subject]) -> Iterator[str]:
    brought = bundle.tools_on(TOOLS_VOLUME)
    size = sum(file.size for file in bundle.files) + sum(file.size for file in brought)
    yield "# What this bundle carries"
    yield ""
    yield "To be read and signed before a medium crosses. Every volume has this same sheet."
    yield ""
    yield f"- Bundle: `{bundle.id}`"
    yield f"- SHA-256 of `{BUNDLE}`, which names every file: `{hashlib.sha256(bundle.data).hexdigest()}`"
    yield f"- From the archive `{bundle.archive}`, written by {_plain(bundle.tool)}"
    volumes = plural(bundle.volumes, "volume")
    yield f"- {volumes} of at most {human_bytes(bundle.volume_size)}, with {human_bytes(size)} in all"
    if bundle.base:
        yield f"- Incremental: packs are left out that the inventory or receipt `{bundle.base}` lists"
    yield ""
    yield "## Models"
    for subject in subjects:
        yield from _snapshot(subject)
    yield ""
    yield "## What could be run"
    yield ""
    yield (
        "Nothing on these volumes is executable but the files in these tables. Packs hold files of models "
        "in a form that no system runs; what such a file could do once it is restored is listed below it."
    )
    yield ""
    yield "| file on every volume | bytes | SHA-256 | what it is |"
    yield "|---|---|---|---|"
    for file in bundle.explanations:
        what = "a program: Python 3, standard library only" if file.name == "decode.py" else "text"
        yield f"| `{file.name}` | {file.size:,} | `{file.sha256}` | {what} |"
    yield f"| `{START}` | | in `{SUMS}` | a page of text: no script, no link to elsewhere |"
    yield ""
    yield from _tools(bundle)
    yield from _risky(subjects)
    yield ""
    yield "## Signatures that come along"
    yield ""
    yield from _signatures(bundle, subjects)
    yield ""
    yield from _volumes(bundle)
    yield "## Signed"
    yield ""
    yield "| | name | date | signature |"
    yield "|---|---|---|---|"
    yield "| carried out by | | | |"
    yield "| security officer | | | |"
    yield "| received by | | | |"


def _tools(bundle: Bundle) -> Iterator[str]:
    if bundle.tools is None:
        return
    yield (
        f"Volume {TOOLS_VOLUME} brings archiver itself, for {_plain('; '.join(bundle.tools.targets))}. "
        f"Nothing of it runs by itself. Before `install.sh` installs anything it compares every file with "
        f"this list, as `{BUNDLE}` has it; it needs no network."
    )
    yield ""
    yield f"| file on volume {TOOLS_VOLUME} | bytes | SHA-256 | what it is | version | licence |"
    yield "|---|---|---|---|---|---|"
    for file in bundle.tools.files:
        row = "list: the wheels for one kind of machine | | "
        if file.package:
            licence = _plain(file.licence) or "none is declared"
            row = f"{_plain(file.package)} | {_plain(file.version)} | {licence}"
        elif file.name.endswith((".py", ".sh")):
            row = "program: installs the wheels | | "
        yield f"| `{file.name}` | {file.size:,} | `{file.sha256}` | {row} |"
    yield ""


def _volumes(bundle: Bundle) -> Iterator[str]:
    yield "## Volumes"
    yield ""
    yield "| volume | folder | files | bytes |"
    yield "|---|---|---|---|"
    totals = {number: [0, 0] for number in range(1, bundle.volumes + 1)}
    brought = bundle.tools_on(TOOLS_VOLUME)
    totals[TOOLS_VOLUME] = [len(brought), sum(tool.size for tool in brought)]
    for each in bundle.files:
        totals[each.volume][0] += 1
        totals[each.volume][1] += each.size
    for number, (count, total) in totals.items():
        yield f"| {number} | `{folder_of(number)}` | {count:,} | {total:,} |"
    yield ""
    yield (
        f"The digests of a volume's files are in its `{SUMS}` (`sha256sum -c {SUMS}` in its folder) and in "
        f"its `{VOLUME}`; `archiver bundle verify` compares both with `{BUNDLE}`."
    )
    yield ""


def _snapshot(subject: Subject) -> Iterator[str]:
    seal, facts = subject.snapshot.seal, subject.facts
    yield ""
    yield f"### {_plain(seal.repository)}"
    yield ""
    yield f"- Revision: `{seal.revision}`" + (
        f", committed {seal.committed}" if seal.committed else ""
    )
    yield f"- From: {_plain(facts.source.upstream)}"
    licence = _plain(facts.source.licence)
    yield f"- Licence: {licence or 'none is declared upstream; what its files say was not read'}"
    yield f"- Vouched for: {subject.vouched}"
    yield f"- Sealed {seal.sealed} by {_plain(seal.tool)}; seal `{subject.snapshot.id}`"
    yield f"- Manifest: BLAKE3 `{seal.manifest.blake3}`"
    if not seal.selection.whole:
        yield "- Chosen files only, or perhaps not all files of the revision"
    yield f"- {plural(seal.totals.files, 'file')}, {seal.totals.bytes:,} bytes when restored"
    yield ""
    yield "| file | bytes | SHA-256 |"
    yield "|---|---|---|"
    for file in facts.files[:_SHOWN]:
        yield f"| {_plain(file.path)} | {file.size:,} | `{file.sha256}` |"
    if len(facts.files) > _SHOWN:
        yield f"| … and {len(facts.files) - _SHOWN:,} more, which the manifest lists | | |"


def _risky(subjects: Sequence[Subject]) -> Iterator[str]:
    rows = []
    for subject in subjects:
        for file in subject.facts.files:
            suffix = PurePosixPath(file.path).suffix.lower()
            if suffix in _CODE:
                rows.append((subject, file, "code, a page or an archive"))
            elif suffix in _PICKLED:
                rows.append((subject, file, "may hold a pickle, which runs code when it is loaded"))
    if not rows:
        yield "No file of these models has a name by which programs, pages or pickles are known."
        return
    yield "Files of these models that are, or may hold, code once they are restored:"
    yield ""
    yield "| repository | file | bytes | SHA-256 | why |"
    yield "|---|---|---|---|---|"
    for subject, file, why in rows[:_SHOWN]:
        name = _plain(subject.snapshot.seal.repository)
        yield f"| {name} | {_plain(file.path)} | {file.size:,} | `{file.sha256}` | {why} |"
    if len(rows) > _SHOWN:
        yield f"| … and {len(rows) - _SHOWN:,} more | | | | |"


def _signatures(bundle: Bundle, subjects: Sequence[Subject]) -> Iterator[str]:
    keys: dict[str, set[str]] = {}
    for file in bundle.files:
        signature = layout.signature_of(stored_name(file.name))
        if signature:
            keys.setdefault(signature.key, set()).add(signature.digest)
    if not keys:
        yield "None: no seal, manifest or event of this bundle is signed."
    for key, digests in sorted(keys.items()):
        signed = [_plain(each.snapshot.title) for each in subjects if each.snapshot.id in digests]
        titles = ", ".join(signed) or "no seal"
        yield f"- minisign key `{key.upper()}`: {plural(len(digests), 'document')}; seals of {titles}"


def _plain(text: str) -> str:
    """Return text of upstream's as a cell can hold it: it steers neither a terminal nor the page."""
    shown = printable(text, 500)
    for sign in "\\`*_[]<>|":
        shown = shown.replace(sign, f"\\{sign}")
    return shown


def sums_of(files: Sequence[StoredFile]) -> bytes:
    """Return ``sha256sums.txt``, as ``sha256sum -c`` reads it."""
    return "".join(f"{file.sha256}  {file.name}\n" for file in files).encode()
