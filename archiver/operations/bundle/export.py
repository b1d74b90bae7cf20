"""Export: write snapshots to volumes, each of which says what it is and can be checked alone.

The bundle is planned before its first byte is written; one that was begun goes on as it was planned.
"""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.bundles.ledger import Ledger
from archiver.archive.bundles.records import (
    TOOLS_VOLUME,
    VOLUME_LEAST,
    Bundle,
    folder_of,
    portable_name,
)
from archiver.archive.bundles.volumes import read_volume
from archiver.archive.events import TOOL
from archiver.archive.place_look import look_at, no_answer
from archiver.archive.publish import closure_names
from archiver.errors import (
    ArchiverError,
    DamageError,
    UnknownFormatError,
    UsageError,
)
from archiver.memory import MemoryBudget
from archiver.operations.bundle.contents import bundle_of, contents_of
from archiver.operations.bundle.far_side import far_side
from archiver.operations.bundle.sheet import sheet_of, subjects_of
from archiver.operations.bundle.tools import ToolFiles
from archiver.operations.bundle.volume_writer import VolumeWriter, WrittenVolume
from archiver.operations.bundle.wheels import ToolTarget
from archiver.storage.files import make_folder
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.operations.bundle.far_side import FarSide
    from archiver.progress import Progress

_PURPOSES: Final = ("bundle", "put", "parity", "parity-blocks")
_PIECE: Final = 4 << 20
_ROUND: Final = 1 << 20
"""Room that a volume's small files may take beside what was counted."""


_PAGE: Final = 128 << 10
"""Bytes that the page to start with takes at most."""


class ExportRequest(msgspec.Struct, frozen=True):
    """What to carry, and onto what.

    Attributes:
        references: The snapshots, as repository and (beginning of a) revision or seal's id; of each the
            one that a restore would choose.
        to: The folder in which the volumes' folders are made.
        volume_size: Bytes that a volume may take.
        volume: Only this one, such as onto a medium that holds one; None: all.
        not_in: A file that says what the far side has, or a place whose receipt does; None: neither.
        parity: Parity blocks of a group, and data blocks of a group; None: no parity.
        tools: Machines that the tool itself is brought for, such as ``linux-x86_64,py311``.
        tool_wheels: The folder that has the wheels for them; None: pip fetches them.
        dry_run: Only plan.
        memory: What this may take.
    """

    references: tuple[tuple[str, str | None], ...]
    to: Path
    volume_size: int
    volume: int | None = None
    not_in: str | None = None
    parity: tuple[int, int] | None = None
    tools: tuple[str, ...] = ()
    tool_wheels: Path | None = None
    dry_run: bool = False
    memory: MemoryBudget = MemoryBudget()


class ExportReport(msgspec.Struct, frozen=True):
    """What was written, or would be.

    Attributes:
        bundle: The bundle's id.
        volumes: How many volumes it has.
        sizes: Bytes of files on each of them, without those in its root.
        snapshots: Titles of what it carries.
        packs: How many packs it carries, and their bytes together.
        left_out: How many packs of its snapshots the far side has, so that they are not carried.
        tools: Package and version of each wheel of the tool that the first volume brings.
        tool_bytes: Bytes of all that brings it.
        written: The volumes that are complete now, of those that were asked for.
        again: Whether it goes on with a bundle that was begun before.
    """

    bundle: str
    archive: str
    volumes: int
    sizes: tuple[int, ...]
    snapshots: tuple[str, ...]
    packs: int
    bytes: int
    left_out: int
    written: tuple[WrittenVolume, ...]
    again: bool
    dry_run: bool
    tools: tuple[tuple[str, str], ...] = ()
    tool_bytes: int = 0


def export(archive: Archive, request: ExportRequest, progress: Progress) -> ExportReport:
    """Write a bundle's volumes, or the one that is asked for.

    Raises:
        UsageError: There is no such snapshot or volume, the volumes are too small, or another bundle lies
            where they are to be written.
        DamageError: What is to be carried is not whole in the archive.
        NoSpaceError: The medium is full.
        ArchiverError: The medium cannot be written to, or is gone.
    """
    if request.tool_wheels and not request.tools:
        raise UsageError(
            "--tool-wheels says where the wheels are, and nothing asks for them.",
            hint="Name the machine that they are for as well, such as --with-tool linux-x86_64,py311.",
        )
    targets = [ToolTarget.parse(text) for text in request.tools]
    with closing(ToolFiles(targets, request.tool_wheels)) as tools:
        return _Run(archive, request, progress, tools).run()


class _Run:
    """One run."""

    def __init__(
        self, archive: Archive, request: ExportRequest, progress: Progress, tools: ToolFiles
    ) -> None:
        self._archive = archive
        self._request = request
        self._tools = tools
        self._progress = progress
        self._base: FarSide | None = far_side(archive, request.not_in) if request.not_in else None
        self._require_target()
        self._snapshots = self._chosen()
        self._subjects = subjects_of(archive, self._snapshots)
        self._again = False
        self._proven: set[str] = set()
        """The BLAKE3 of files that are carried in pieces, and that are whole."""
        self._bundle = self._planned()
        self._sources = self._stored_names()

    def run(self) -> ExportReport:
        request, bundle = self._request, self._bundle
        numbers = list(range(1, bundle.volumes + 1))
        if request.volume is not None:
            if request.volume not in numbers:
                raise UsageError(
                    f"This bundle has {plural(bundle.volumes, 'volume')}; there is no volume "
                    f"{request.volume}.",
                    hint=f"Nothing was written. The last is --volume {bundle.volumes}.",
                )
            numbers = [request.volume]
        written: list[WrittenVolume] = []
        if not request.dry_run:
            Ledger(self._archive.store).note_sent(bundle)
            files = [file for file in bundle.files if file.volume in numbers]
            self._progress.expect(len(files), sum(file.size for file in files))
            written += map(self._volume, numbers)
        packs = bundle.packs()
        brought = bundle.tools_on(TOOLS_VOLUME)
        needed = {pack for each in self._snapshots for pack, _ in each.seal.packs}
        return ExportReport(
            bundle=bundle.id,
            archive=bundle.archive,
            volumes=bundle.volumes,
            sizes=tuple(
                sum(file.size for file in bundle.on(number))
                + sum(file.size for file in bundle.tools_on(number))
                for number in range(1, bundle.volumes + 1)
            ),
            snapshots=tuple(each.title for each in self._snapshots),
            packs=len(packs),
            bytes=sum(packs.values()),
            left_out=len(needed - packs.keys()),
            written=tuple(written),
            again=self._again,
            dry_run=request.dry_run,
            tools=tuple((file.package, file.version) for file in brought if file.package),
            tool_bytes=sum(file.size for file in brought),
        )

    # ---- what and where

    def _require_target(self) -> None:
        to = self._request.to
        look = look_at(to)
        if not look.answered:
            raise no_answer(to)
        if look.unmounted:
            raise UsageError(
                f"{to} lies on a disk that is not mounted at {look.unmounted}.",
                hint="Nothing was written. Mount it, or choose another folder.",
            )
        self._archive.require_outside(to)
        if to.exists() and not to.is_dir():
            raise UsageError(f"{to} is not a folder.", hint="Choose a folder for the volumes.")
        if self._request.volume_size < VOLUME_LEAST:
            raise UsageError(
                f"A volume must have at least {human_bytes(VOLUME_LEAST)}.",
                hint="Give more with --volume-size.",
            )

    def _chosen(self) -> list[Snapshot]:
        chosen: dict[str, Snapshot] = {}
        for repository, revision in self._request.references:
            snapshot = self._archive.find(repository, revision)
            if not snapshot.sealed:
                raise DamageError(
                    f"The seal of {snapshot.title} is lost: there is nothing that vouches for it.",
                    hint="Nothing was written. Run 'archiver repair', then export again.",
                )
            chosen.setdefault(snapshot.id, snapshot)
        if not chosen:
            raise UsageError("Name what is to be carried, as REPO or REPO@REVISION.")
        return list(chosen.values())

    def _planned(self) -> Bundle:
        """Return the bundle that was begun before, if one says the same, or a new one."""
        begun = list(self._begun_there())
        if self._request.volume is not None:
            # On the media before it, and perhaps not at hand: the archive knows it.
            begun += Ledger(self._archive.store).sent()
        for bundle in begun:
            if self._says_the_same(bundle):
                self._again = True
                if bundle.tools:
                    self._tools.pin(bundle.tools)
                return bundle
        contents = contents_of(self._archive, self._snapshots, self._base, self._request.parity)
        return bundle_of(
            self._archive,
            contents,
            self._request.volume_size,
            self._base,
            self._request.parity,
            lambda bundle: len(sheet_of(bundle, self._subjects)) + _PAGE,
            self._tools.plan() if self._request.tools else None,
        )

    def _begun_there(self) -> Iterator[Bundle]:
        if not self._request.to.is_dir():
            return
        for folder in sorted(self._request.to.glob("volume-[0-9][0-9][0-9][0-9]")):
            with suppress(UnknownFormatError):
                bundle = read_volume(folder).bundle
                if bundle is not None:
                    yield bundle

    def _says_the_same(self, bundle: Bundle) -> bool:
        request = self._request
        base = self._base.id if self._base else ""
        return (
            bundle.archive == self._archive.info.archive
            and [each.id for each in bundle.snapshots] == [each.id for each in self._snapshots]
            and (bundle.volume_size, bundle.base) == (request.volume_size, base)
            and (bundle.parity, bundle.tool) == (request.parity, TOOL)
            and (bundle.tools.targets if bundle.tools else ()) == self._tools.targets
        )

    def _stored_names(self) -> dict[str, str]:
        """Return, for documents that lie elsewhere on a volume, the name that they have in the archive."""
        names: dict[str, str] = {}
        for snapshot in self._snapshots:
            seal = layout.seal_name(snapshot.seal.repository, snapshot.seal.revision, snapshot.id)
            manifest = closure_names(snapshot.seal)[0]
            names[portable_name(seal)] = snapshot.name
            names[portable_name(manifest)] = manifest
        return names

    # ---- one volume

    def _volume(self, number: int) -> WrittenVolume:
        folder = self._request.to / folder_of(number)
        try:
            make_folder(folder, folder)
            writer = VolumeWriter(
                self._archive,
                self._bundle,
                number,
                folder,
                self._sources,
                self._request.memory,
                self._tools.read,
            )
            return writer.write(
                sheet_of(self._bundle, self._subjects), self._proven, self._progress
            )
        except DamageError:
            raise
        except OSError as error:
            raise ArchiverError(
                f"{folder}: {error.strerror or error}, while {folder_of(number)} was written.",
                hint=self._go_on(number),
            ) from error
        except ArchiverError as error:
            error.hint = f"{error.hint} {self._go_on(number)}".strip()
            raise

    def _go_on(self, number: int) -> str:
        return (
            f"Volume {number} of {self._bundle.volumes} is not complete. Once its medium is there, with "
            f"enough room, run the same command again (--volume {number} for this one alone): what is "
            "on it already is kept."
        )
