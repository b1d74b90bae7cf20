"""Verify: a plain folder against a manifest file. Needs no archive."""

from __future__ import annotations

import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive.advice import (
    MirrorAnew,
    MoveOrIgnore,
    PutFile,
    RestoreAgain,
    TakeManifest,
    TakeSignature,
)
from archiver.archive.check.folder import CHECKER_BYTES, FileChecker
from archiver.archive.destination import is_unfinished
from archiver.archive.findings import Finding
from archiver.archive.manifests import entry_fault, read_manifest_file
from archiver.archive.records import FileEntry, Manifest
from archiver.archive.signing.signatures import UntrustedError
from archiver.errors import DamageError, HostileNameError, UsageError
from archiver.memory import MemoryBudget
from archiver.names import as_repo_path, check_paths
from archiver.tensors.weight_files import (
    HEAD,
    INDEX_MAX,
    incomplete_splits,
    is_index,
    may_be_stand_in,
    owners_of,
    parse_index,
    stand_in,
)
from archiver.text import plural, printable
from archiver.upstream.directory import foreign_part, read_beginning
from archiver.upstream.hub_cache import repository_of, scan_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.archive.signing.signatures import Trust
    from archiver.progress import Progress
    from archiver.upstream.directory import DirectoryScan


class VerifyRequest(NamedTuple):
    """What to compare.

    Attributes:
        folder: A plain folder, or ``snapshots/<revision>`` of a hub client's cache.
        manifest: The file: as an archive stores it, as exported, or pretty-printed.
        ignore: Patterns of files that may be there although the manifest does not list them.
        trust: Who must have signed the manifest; None if nobody need have.
        memory: What this may take, and so how many threads work.
    """

    folder: Path
    manifest: Path
    ignore: tuple[str, ...] = ()
    trust: Trust | None = None
    memory: MemoryBudget = MemoryBudget()


class VerifyReport(msgspec.Struct, frozen=True):
    """What a check found; ``files`` and ``bytes`` are what the manifest lists.

    ``manifest`` is the BLAKE3 of its canonical JSON, ``""`` if it could not be read; ``read_files``
    and ``read_bytes`` are what was compared; ``command`` mends the folder from an archive;
    ``signer`` is the id of the trusted key that signed the manifest, ``""`` if none was asked for.
    """

    folder: str
    manifest: str = ""
    repository: str = ""
    revision: str = ""
    files: int = 0
    bytes: int = 0
    read_files: int = 0
    read_bytes: int = 0
    findings: tuple[Finding, ...] = ()
    command: str = ""
    signer: str = ""

    @property
    def intact(self) -> bool:
        """Whether the folder holds what the manifest says, and nothing else but unfinished files."""
        return all(finding.remark for finding in self.findings)


def verify(request: VerifyRequest, progress: Progress) -> VerifyReport:
    """Compare a folder with a manifest; every fault is a finding.

    Raise UsageError if there is no such folder or manifest.
    """
    folder, manifest_path, trust = request.folder, request.manifest, request.trust
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.")
    signers: list[str] = []

    def prove(plain: bytes) -> None:
        if trust is not None:
            signers.append(trust.require(manifest_path, plain))

    try:
        manifest, digest = read_manifest_file(manifest_path, prove)
    except DamageError as error:
        return VerifyReport(str(folder), findings=(_unusable(manifest_path, error),))
    scan = scan_snapshot(folder)
    findings, checked = _before_reading(manifest, scan)
    own = [manifest_path, *(trust.candidates(manifest_path) if trust else ())]
    findings += _extra(scan, {entry.path for entry in manifest.files}, request.ignore, own)
    findings += _read(checked, request.memory.workers(CHECKER_BYTES), progress)
    faulty = {finding.path for finding in findings}
    findings += _no_model([pair for pair in checked if pair[0].path not in faulty], manifest)
    return VerifyReport(
        folder=str(folder),
        manifest=digest,
        repository=manifest.source.repository,
        revision=manifest.source.revision,
        files=len(manifest.files),
        bytes=sum(entry.size for entry in manifest.files),
        read_files=len(checked),
        read_bytes=sum(entry.size for entry, _ in checked),
        findings=tuple(sorted(findings, key=lambda finding: finding.path)),
        command="" if all(finding.remark for finding in findings) else _command(manifest, folder),
        signer=signers[0] if signers else "",
    )


def _unusable(path: Path, error: DamageError) -> Finding:
    if isinstance(error, UntrustedError):
        return Finding("signature-damaged", error.message, str(path), actions=(TakeSignature(),))
    return Finding("manifest-damaged", error.message, str(path), actions=(TakeManifest(),))


_LEFTOVERS: Final = {
    "unfinished": "a download that did not end",
    "tool": "what a download tool or git leaves",
    "system": "what an operating system leaves",
}
_SHARDS_MAX: Final = 5
_FILES_MAX: Final = 1000
"""Missing parts of split models that are listed, of all together."""
_Checked = tuple[FileEntry, str]


def _before_reading(
    manifest: Manifest, scan: DirectoryScan
) -> tuple[list[Finding], list[_Checked]]:
    """Return what is wrong before a byte was read, and the files to read."""
    findings, checked = list(_clashes(manifest)), []
    for entry in manifest.files:
        finding = _fault(entry, scan)
        if finding:
            findings.append(finding)
        else:
            checked.append((entry, scan.files[entry.path]))
    for below, why in scan.unreadable.items():
        where = _text(below) or "."
        findings.append(Finding("file-unreadable", f"The folder cannot be listed: {why}.", where))
    return findings, checked


def _fault(entry: FileEntry, scan: DirectoryScan) -> Finding | None:
    path = entry.path
    hostile = _path_fault(path)
    if hostile:
        return Finding("path-hostile", hostile, path, actions=(TakeManifest(),))
    fault = entry_fault(entry)
    if fault:
        return Finding("manifest-damaged", f"Its entry {fault}.", path, actions=(TakeManifest(),))
    if path in scan.escaping:
        return _escape(path, scan, PutFile())
    if path in scan.odd:
        return Finding("file-missing", f"It {scan.odd[path]}.", path)
    if path not in scan.files:
        return Finding("file-missing", "It is not there.", path)
    return None


def _clashes(manifest: Manifest) -> Iterator[Finding]:
    """Yield a finding if paths that are each harmless cannot all be right."""
    try:
        check_paths(entry.path for entry in manifest.files if not _path_fault(entry.path))
    except HostileNameError as error:
        yield Finding("path-hostile", error.message, actions=(TakeManifest(),))


def _path_fault(path: str) -> str:
    try:
        as_repo_path(path)
    except HostileNameError as error:
        return error.message
    return ""


def _escape(path: str, scan: DirectoryScan, action: MoveOrIgnore | PutFile) -> Finding:
    target = _text(scan.escaping[path])
    message = f"It is a link that leads out of the folder, to {target}; it was not followed."
    return Finding("link-escapes", message, _text(path), actions=(action,))


def _extra(
    scan: DirectoryScan, listed: set[str], ignore: tuple[str, ...], beside: list[Path]
) -> Iterator[Finding]:
    own = {os.path.realpath(path) for path in beside}

    def may_be_there(path: str) -> bool:
        known = path in listed or scan.files.get(path) in own
        return known or any(fnmatchcase(path, pattern) for pattern in ignore)

    for path in scan.escaping:
        if not may_be_there(path):
            yield _escape(path, scan, MoveOrIgnore())
    for path in [*scan.files, *scan.odd]:
        if may_be_there(path):
            continue
        if path in scan.files and is_unfinished(path.rpartition("/")[2]):
            text = "A restore that runs, or was killed, left this unfinished file."
            yield Finding("file-unfinished", text, _text(path), actions=(RestoreAgain(),))
        else:
            part = foreign_part(path)
            whose = f"; it is {_LEFTOVERS[part.kind]}" if part else ""
            why = f"; it {scan.odd[path]}" if path in scan.odd else ""
            message = f"The manifest does not list it{whose}{why}."
            yield Finding("file-extra", message, _text(path), actions=(MoveOrIgnore(),))


def _read(checked: list[_Checked], workers: int, progress: Progress) -> list[Finding]:
    """Return what is wrong with the bytes of the files; the largest file is begun first."""
    progress.expect(len(checked), sum(entry.size for entry, _ in checked))
    order = sorted(checked, key=lambda pair: -pair[0].size)
    with ThreadPoolExecutor(workers) as hashers, ThreadPoolExecutor(workers) as readers:
        checker = FileChecker(hashers, lambda count: progress.advance(count, fetched=True))
        tasks = [readers.submit(_check_file, checker, progress, *pair) for pair in order]
        try:
            return [finding for task in tasks for finding in task.result()]
        except BaseException:
            checker.stop()
            readers.shutdown(cancel_futures=True)
            raise


def _no_model(sound: list[_Checked], manifest: Manifest) -> Iterator[Finding]:
    """Yield remarks on files that are as the manifest says, and with which no model can be loaded."""
    listed = {entry.path for entry in manifest.files}
    for entry, where in sound:
        if may_be_stand_in(entry.path, entry.size):
            stands_in = stand_in(entry.path, read_beginning(where, HEAD), entry.size)
            if stands_in is not None:
                message = f"It {stands_in.description}; the manifest has it so."
                yield Finding("not-weights", message, entry.path, hint=stands_in.hint)
        if is_index(entry.path, pickles=True) and entry.size <= INDEX_MAX:
            missing = sorted(_shards(entry.path, where) - listed)
            if missing:
                yield _incomplete(entry.path, "names", missing, len(missing))
    room = _FILES_MAX
    for model in incomplete_splits(listed):
        missing = list(islice(model.missing(), room))
        room -= len(missing)
        if missing:
            count = model.total - len(model.parts)
            yield _incomplete(model.present()[0], "goes with", missing, count)


def _incomplete(path: str, names: str, missing: list[str], count: int) -> Finding:
    """Return the remark that files which belong to ``path`` are not listed; ``count`` in all."""
    named = ", ".join(map(printable, missing[:_SHARDS_MAX]))
    more = ", …" if count > _SHARDS_MAX else ""
    message = f"It {names} {plural(count, 'shard')} that the manifest does not list: {named}{more}."
    return Finding("index-incomplete", message, path, files=tuple(missing), actions=(MirrorAnew(),))


def _shards(path: str, where: str) -> set[str]:
    """Return the shards that an index names; none if it is no index."""
    try:
        return set(owners_of(path, parse_index(read_beginning(where, INDEX_MAX))).values())
    except ValueError:
        return set()


def _check_file(
    checker: FileChecker, progress: Progress, entry: FileEntry, where: str
) -> list[Finding]:
    progress.begin(entry.path, entry.size)
    findings = checker.check(entry, where)
    progress.end(entry.path)
    return findings


def _command(manifest: Manifest, folder: Path) -> str:
    """Return the command that writes the missing files from an archive, and keeps those that are right."""
    name = f"{manifest.source.repository}@{manifest.source.revision[:12]}"
    cache = repository_of(folder)
    where = (
        f"{shlex.quote(str(cache.parent))} --layout hf-cache" if cache else shlex.quote(str(folder))
    )
    return f"archiver restore -C ARCHIVE {shlex.quote(name)} {where}"


def _text(path: str) -> str:
    r"""Return a name from the disk as text; bytes that are not UTF-8 are written as ``\\xff``."""
    return os.fsencode(path).decode(errors="backslashreplace")
