"""The damage table: every damage to every kind of stored file, what is said of it, and what heals it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from kit.faults import overwrite
from kit.repository import noise

from archiver.tensors.header import header_bytes

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, OTHER = "org/one", "org/two", "org/other"
BLOCK = 4096
"""Bytes of a disk's block, and of a parity block of so small files."""


def model(seed: int) -> dict[str, bytes]:
    """A small model: three tensors, of which one is shared by all models, and a text file."""
    tensors = [
        ("shared.weight", "U8", (20, 500), noise(999, 10_000)),
        ("body.weight", "U8", (40, 1000), noise(seed, 40_000)),
        ("head.weight", "U8", (30, 500), noise(seed + 1, 15_000)),
    ]
    head = header_bytes([(name, kind, shape, len(data)) for name, kind, shape, data in tensors])
    weights = bytes(head) + b"".join(data for *_, data in tensors)
    return {"model.safetensors": weights, "config.json": b'{"seed": %d}' % seed}


MODELS = {ONE: model(10), TWO: model(20)}


# ---- an archive's files


def seal(root: Path, repository: str) -> Path:
    (path,) = (root / "snapshots" / repository).iterdir()
    return path


def manifest(root: Path, repository: str) -> Path:
    (path,) = (root / "manifests" / repository).iterdir()
    return path


def _named(root: Path, repository: str) -> set[str]:
    return {digest for digest, _ in json.loads(seal(root, repository).read_bytes())["packs"]}


def pack(root: Path, repository: str) -> Path:
    """The pack that was written for the repository."""
    (name,) = _named(root, repository) - (_named(root, ONE) if repository == TWO else set())
    return root / "packs" / name[:2] / f"{name}.pack"


def event(root: Path, repository: str) -> Path:
    """The event of the repository's seal."""
    (path,) = (
        path
        for path in (root / "journal").rglob("*.json")
        if (event := json.loads(path.read_bytes()))["event"] == "sealed"
        and event["repository"] == repository
    )
    return path


def sidecar(root: Path, repository: str) -> Path:
    """The sidecar of the repository's pack."""
    name = pack(root, repository).stem
    return root / "parity" / name[:2] / f"{name}.par"


TARGETS = {
    "pack": pack,
    "parity": sidecar,
    "manifest": manifest,
    "seal": seal,
    "event": event,
    "archive.json": lambda root, _repository: root / "archive.json",
    "catalogue": lambda root, _repository: root / "catalogue.sqlite",
}


def stored(root: Path) -> dict[str, bytes]:
    folders = ("packs", "manifests", "snapshots", "journal", "parity")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def losses(findings: list[dict]) -> set[str]:
    """What the findings of lost objects name, as the table writes it."""
    lost = set()
    for finding in findings:
        if finding["code"] in {"object-damaged", "object-missing"}:
            rows = finding.get("rows")
            tensor = (
                f"{finding['tensor']} rows {rows[0]}..{rows[1]}" if rows else finding.get("tensor")
            )
            tensors = ", ".join(finding.get("tensors") or [tensor or ""])
            repository = finding["snapshot"].partition("@")[0]
            lost.add(f"{repository} {finding['path']} {tensors}".strip())
    return lost


# ---- damages


class Scene(NamedTuple):
    """An archive to damage, and another one that has nothing to do with it."""

    root: Path
    other: Path
    kind: str

    @property
    def target(self) -> Path:
        return TARGETS[self.kind](self.root, ONE)

    @property
    def vital(self) -> int:
        """A place in the file where damage can be told: in a pack, amid the tensor body.weight."""
        if self.kind == "pack":
            return self.target.read_bytes().index(noise(10, 1000)) + 20_000
        return {"catalogue": BLOCK, "archive.json": 20}.get(self.kind, self.size // 2)

    @property
    def size(self) -> int:
        return self.target.stat().st_size

    def change(self, begin: int, data: bytes) -> None:
        old = self.target.read_bytes()
        overwrite(self.target, old[:begin] + data + old[begin + len(data) :])


def flip(scene: Scene) -> None:
    at = scene.vital
    scene.change(at, bytes([scene.target.read_bytes()[at] ^ 1]))


def zero(scene: Scene) -> None:
    """A block of a disk; a file that is smaller lies in one."""
    begin = scene.vital // BLOCK * BLOCK
    scene.change(begin, bytes(min(BLOCK, scene.size - begin)))


def cut(scene: Scene) -> None:
    overwrite(scene.target, scene.target.read_bytes()[: scene.size // 2])


def empty(scene: Scene) -> None:
    overwrite(scene.target, b"")


def remove(scene: Scene) -> None:
    scene.target.unlink()


def swap(scene: Scene) -> None:
    first_path = scene.target
    alone = scene.kind in {"archive.json", "catalogue"}
    second_path = TARGETS[scene.kind](scene.other if alone else scene.root, TWO)
    first, second = first_path.read_bytes(), second_path.read_bytes()
    overwrite(first_path, second)
    overwrite(second_path, first)


def add(scene: Scene) -> None:
    """Garbage of the same size, under a name that a file of the kind may have."""
    digest, target = "ab" * 32, scene.target
    old = target.name.split(".")
    name = ".".join(digest if len(part) == 64 else part for part in old)
    folder = target.parents[1] / "ab" if target.parent.name == target.name[:2] else target.parent
    if scene.kind == "catalogue":
        name += "-wal"
    overwrite(folder / name, noise(5, scene.size))


def lose_index(scene: Scene) -> None:
    data = scene.target.read_bytes()
    if scene.kind == "pack":
        begin = int.from_bytes(data[-8:], "little")
        scene.change(begin, bytes(len(data) - begin))
    else:
        scene.change(0, bytes(8 + int.from_bytes(data[4:8], "little")))


DAMAGES = {
    "bit flip": flip,
    "zeroed block": zero,
    "cut to half": cut,
    "no bytes": empty,
    "missing": remove,
    "swapped": swap,
    "extra": add,
    "index lost": lose_index,
}


# ---- the table

HEALED = "healed"
"""Every stored file is what it was; what never belonged there is out of use."""
ANEW = "anew"
"""A new file stands in for the old one, which is out of use; nothing is lost."""
IN_PART = "in part"
"""Some snapshots are whole again; what is left is named."""
STAYS = "stays"
"""Nothing could be done, and nothing is worse."""
HARMLESS = "harmless"
"""There is nothing to heal."""

SITUATIONS = ("copy", "parity", "neither")
"""What there is to heal from: a copy of the archive, parity, or only the archive itself."""


class Cell(NamedTuple):
    """What a damage to a file of a kind comes to.

    Attributes:
        codes: The findings of damage, as often as they come.
        remarks: The other findings.
        hit: The repositories whose snapshots the findings name.
        lost: What cannot be restored: repository, file (``*``: all), and in it tensors and rows.
        outcome: What a repair makes of it, for each of ``SITUATIONS``.
        restore: The exit code of a restore of what is hit, if something is lost.
    """

    codes: str
    remarks: str = ""
    hit: tuple[str, ...] = ()
    lost: frozenset[str] = frozenset()
    outcome: tuple[str, str, str] = (HEALED, HEALED, HEALED)
    restore: int = 20

    def lost_files(self, repository: str) -> set[str]:
        """The files of a repository of which something is lost."""
        words = (one.split(" ") for one in self.lost)
        paths = {path for name, path, *_ in words if name == repository}
        return set(MODELS[repository]) if "*" in paths else paths


_COPY = (HEALED, STAYS, STAYS)
_PARITY = (HEALED, HEALED, STAYS)
_NEVER = (STAYS, STAYS, STAYS)
_NO_HARM = (HARMLESS, HARMLESS, HARMLESS)

_WEIGHTS = f"{ONE} model.safetensors"
_BODY = frozenset({f"{_WEIGHTS} body.weight rows 0..39"})
_TAIL = frozenset(
    {f"{_WEIGHTS} body.weight rows 0..39, head.weight rows 0..29", f"{ONE} config.json"}
)
_PACK = frozenset(
    {f"{ONE} config.json", _WEIGHTS, f"{TWO} model.safetensors shared.weight rows 0..19"}
)

_pack_gone = Cell("", hit=(ONE, TWO), lost=_PACK, outcome=_COPY)
_sidecar = Cell("parity-damaged")
_manifest = Cell("manifest-damaged", hit=(ONE,))
_seal = Cell("seal-damaged", "unsealed-manifest", (ONE,), outcome=(HEALED, HEALED, ANEW))
_event = Cell("event-damaged", outcome=_PARITY)
_info = Cell("archive-json-damaged")
_catalogue = Cell("", "catalogue-damaged")
_harmless = Cell("", outcome=_NO_HARM)

TABLE = {
    "pack": {
        "bit flip": Cell("pack-damaged object-damaged", "", (ONE, TWO), _BODY, _PARITY),
        "zeroed block": Cell("pack-damaged object-damaged", "", (ONE, TWO), _BODY, _PARITY),
        "cut to half": Cell(
            "pack-size object-missing object-missing",
            hit=(ONE, TWO),
            lost=_TAIL,
            outcome=(HEALED, IN_PART, IN_PART),
        ),
        "no bytes": _pack_gone._replace(codes="pack-size" + 3 * " object-missing"),
        "missing": _pack_gone._replace(codes="pack-missing" + 3 * " object-missing"),
        "swapped": Cell("pack-size pack-size", hit=(ONE, TWO)),
        "extra": Cell("pack-damaged index-damaged", "unsealed-pack"),
        "index lost": Cell("pack-damaged index-damaged", hit=(ONE, TWO)),
    },
    "parity": {
        "bit flip": _sidecar,
        "zeroed block": _sidecar,
        "cut to half": _sidecar,
        "no bytes": _sidecar,
        "missing": _harmless,
        "swapped": Cell("parity-damaged parity-damaged"),
        "extra": _sidecar._replace(remarks="unneeded-parity"),
        "index lost": _sidecar,
    },
    "manifest": {
        "bit flip": _manifest,
        "zeroed block": _manifest,
        "cut to half": _manifest,
        "no bytes": _manifest,
        "missing": _manifest._replace(codes="manifest-missing"),
        "swapped": Cell("manifest-damaged manifest-damaged", "", (ONE, TWO)),
        "extra": _harmless._replace(remarks="unsealed-manifest"),
    },
    "seal": {
        "bit flip": _seal,
        "zeroed block": _seal,
        "cut to half": _seal,
        "no bytes": _seal,
        "missing": _seal._replace(codes="seal-missing"),
        "swapped": Cell(
            "seal-damaged seal-damaged",
            "unsealed-manifest unsealed-manifest unsealed-pack unsealed-pack",
            (ONE, TWO),
        ),
        "extra": Cell("seal-damaged", hit=(ONE,), outcome=_NEVER),
    },
    "event": {
        "bit flip": _event,
        "zeroed block": _event,
        "cut to half": _event,
        "no bytes": _event,
        "missing": _event._replace(codes="event-missing"),
        "swapped": Cell("event-damaged event-damaged"),
        "extra": _event._replace(outcome=_NEVER),
    },
    "archive.json": {
        "bit flip": _info,
        "zeroed block": _info,
        "cut to half": _info,
        "no bytes": _info,
        "missing": _info._replace(codes="archive-json-missing"),
        "swapped": _info,
    },
    "catalogue": {
        "bit flip": _catalogue,
        "zeroed block": _catalogue,
        "cut to half": _catalogue,
        "no bytes": _harmless,
        "missing": _harmless,
        "swapped": _harmless,
        "extra": _harmless,
    },
}
"""Kind -> damage -> what it comes to."""

_ONE_DOCUMENT = "it is one document, with no index in it"
DOES_NOT_APPLY = {
    ("manifest", "index lost"): _ONE_DOCUMENT,
    ("seal", "index lost"): _ONE_DOCUMENT,
    ("event", "index lost"): _ONE_DOCUMENT,
    ("archive.json", "index lost"): _ONE_DOCUMENT,
    ("archive.json", "extra"): "there is one name for it; another file under that is `swapped`",
    ("catalogue", "index lost"): "it is an index itself; that it is lost is `missing`",
}
"""The cells that cannot be, and why."""

CELLS = [(kind, damage) for kind, row in TABLE.items() for damage in row]


def on_page(kind: str, damage: str) -> str:
    """The cell as ``docs/reliability.md`` has it."""
    if (kind, damage) in DOES_NOT_APPLY:
        return "none"
    cell = TABLE[kind][damage]
    codes = dict.fromkeys(cell.codes.split() or cell.remarks.split())
    said = ", ".join(f"`{code}`" for code in codes) or "no finding"
    return f"{said}: {_healer(cell)}"


def _healer(cell: Cell) -> str:
    copy_, parity, neither = cell.outcome
    if copy_ == HARMLESS:
        return "harmless"
    if copy_ == STAYS:
        return "by hand"
    if neither == HEALED:
        return "itself"
    if neither == ANEW:
        return "copy, parity; else anew"
    if IN_PART in cell.outcome:
        return "copy; else in part"
    return "copy, parity" if parity == HEALED else "copy"
