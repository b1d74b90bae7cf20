"""Archives on disk that a test may damage."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from kit.cli import invoke
from kit.repository import write_model

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.records import Manifest, ManifestRef


class NoHints:
    """Knows of no object that is stored already."""

    def locate(self, digest: str) -> list:
        del digest
        return []


class Weights:
    """An archive on disk that a test may damage."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def copy(self, target: Path) -> Weights:
        shutil.copytree(self.root, target)
        return Weights(target)

    def documents(self, kind: str) -> list[Path]:
        """Stored files of a kind, those of org/one first."""
        if kind in {"manifests", "snapshots"}:
            return sorted(path for path in (self.root / kind).rglob("*") if path.is_file())
        if kind == "packs":
            one, two = ([pack for pack, _ in self.seal(name)["packs"]] for name in ("one", "two"))
            # org/two may also stand on an object that org/one has; packs are listed by their digests.
            names = [one[0], next(pack for pack in two if pack not in one)]
            return [self.root / "packs" / name[:2] / f"{name}.pack" for name in names]
        if kind == "journal":
            found = (path for path in (self.root / "journal").rglob("*") if path.is_file())
            return sorted(found, key=lambda path: json.loads(path.read_bytes())["repository"])
        return [self.root / kind]

    def seal(self, name: str) -> dict:
        (path,) = (self.root / "snapshots/org" / name).iterdir()
        return json.loads(path.read_bytes())

    def events(self, name: str) -> list[dict]:
        found = [json.loads(path.read_bytes()) for path in self.documents("journal")]
        return [one for one in found if one["event"] == name]


def of_two_models(folder: Path, rows: tuple[int, int]) -> Weights:
    """An archive of org/one and org/two, each in a pack of its own."""
    archive = folder / "weights"
    assert invoke("init", "-q", "-C", archive) == 0
    for seed, (name, count) in enumerate(zip(("one", "two"), rows, strict=True)):
        model = write_model(folder / name, seed * 10, count)
        words = ("import", "-q", "-C", archive, model, "--as", f"org/{name}")
        assert invoke(*words, "--min-free", "0B") == 0
    return Weights(archive)


def put_manifest(archive: Archive, manifest: Manifest) -> ManifestRef:
    """Store a manifest that no seal names yet; return what a seal says of it."""
    from archiver.archive.manifests import manifest_bytes, manifest_ref

    plain = manifest_bytes(manifest)
    archive.publish_manifest(manifest.source, plain)
    return manifest_ref(plain)


def info_of_newer(path: Path, **changes: object) -> bytes:
    """What a newer writer's archive.json holds, whose digest is right."""
    from blake3 import blake3

    from archiver.archive.records import canonical

    keys = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "check"}
    keys |= changes
    return canonical(keys | {"check": blake3(canonical(keys)).hexdigest()}) + b"\n"


def as_older(root: Path, repository: str) -> Path:
    """Make the repository's seal one of an older writer: without a copy of its manifest in packs."""
    (path,) = seals(root, repository)
    return older_seal(path)


def older_seal(path: Path) -> Path:
    """Make a seal one of an older writer; its new path."""
    from blake3 import blake3

    seal = json.loads(path.read_bytes())
    for key in ("sha256", "objects"):
        del seal["manifest"][key]
    del seal["committed"]
    data = json.dumps(seal, sort_keys=True, separators=(",", ":")).encode()
    path.unlink()
    older = path.with_name(f"{seal['revision']}.{blake3(data).hexdigest()}.json")
    older.write_bytes(data)
    return older


def copy(root: Path, target: Path) -> Path:
    shutil.copytree(root, target)
    return target


def seals(archive: Path, repository: str = "") -> list[Path]:
    """The seals of an archive, or of one of its repositories."""
    return sorted((archive / "snapshots" / repository).rglob("*.json"))
