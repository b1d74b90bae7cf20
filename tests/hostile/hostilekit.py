"""Hostile archives made by hand, each of one snapshot of Org/Model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from pathlib import Path


OK = b'{"fine": true}\n'
OK_DIGEST = blake3(OK).hexdigest()
TEXT = bytes(range(256)) * 40


def tensor_file() -> tuple[bytes, list[bytes], list[dict]]:
    """A safetensors file, its segments, and its tensors as a manifest has them."""
    from archiver.tensors.header import header_bytes

    head = header_bytes([("a", "U8", (100,), 100), ("b", "U8", (4, 5), 20)])
    parts = [head, bytes(range(100)), b"\7" * 20]
    at, tensors = len(head), []
    for name, shape, part in (("a", [100], parts[1]), ("b", [4, 5], parts[2])):
        end = at + len(part)
        tensors.append({"name": name, "dtype": "U8", "shape": shape, "begin": at, "end": end})
        at = end
    return b"".join(parts), parts, tensors


def plain_files() -> list[dict]:
    from kit import handmade

    _, parts, tensors = tensor_file()
    return [
        handmade.described("config.json", [OK]),
        handmade.described("model.safetensors", parts) | {"tensors": tensors},
        handmade.described("text.bin", [TEXT]),
    ]


def good_pack() -> bytes:
    from kit import handmade

    plains = [OK, TEXT, *tensor_file()[1]]
    return handmade.pack([(one, 0, handmade.object_frames(one, 0)) for one in plains])


def write_archive(root: Path, change=lambda _manifest: None, pack: bytes | None = None, **seal):
    """An archive of one snapshot whose manifest was changed before it was named; ``root``."""
    from kit import handmade

    from archiver.archive import archive

    manifest = json.loads(handmade.manifest(plain_files()))
    change(manifest)
    if isinstance(manifest["files"], list):
        manifest["files"].sort(key=lambda file: str(file.get("path")))
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    data = text.encode("utf-8", "surrogatepass")
    pack = good_pack() if pack is None else pack
    handmade.write_identity(root)
    for name, content in archive.carried_files():
        (root / name).write_bytes(content)
    handmade.write_pack(root, pack)
    handmade.write_snapshot(root, data, [pack], **seal)
    return root


def renamed(path):
    """Another path for the text file."""

    def change(manifest):
        manifest["files"][2]["path"] = path

    return change


def also(*paths):
    """Files of these paths beside the others."""

    def change(manifest):
        manifest["files"] += [manifest["files"][0] | {"path": path} for path in paths]

    return change


def entry(number, **fields):
    def change(manifest):
        manifest["files"][number].update(fields)

    return change


def tensor(number, **fields):
    def change(manifest):
        manifest["files"][1]["tensors"][number].update(fields)

    return change


HUGE = 10**400
BY_HAND = {"tensor", "oid", "shape", "card"}
"""Words of what the reader that an archive carries does not look at: it needs none of it."""
NEVER = {
    "parent": renamed("../up"),
    "parent inside": renamed("a/../../up"),
    "absolute": renamed("/etc/passwd"),
    "empty path": renamed(""),
    "empty part": renamed("a//b"),
    "dot": renamed("./a"),
    "slash at the end": renamed("a/"),
    "NUL": renamed("a\0b"),
    "long part": renamed("x" * 256),
    "long path": renamed("/".join(["y" * 200] * 6)),
    "twice": also("config.json"),
    "file and folder": also("config.json/x"),
    "file and folder, apart": also("a", "a!", "a.b", "a/b"),
    "SHA-256": entry(2, sha256="x"),
    "upper case SHA-256": entry(2, sha256="A" * 64),
    "BLAKE3": entry(2, blake3=""),
    "oid": entry(2, oid="z" * 40),
    "no segments": entry(2, segments=[]),
    "size": entry(2, size=5),
    "negative size": entry(2, size=-1),
    "segment of no bytes": entry(2, segments=[[0, "a" * 64], [10240, "b" * 64]]),
    "segment too long": entry(2, size=1 << 30, segments=[[1 << 30, "a" * 64]]),
    "segment's name": entry(2, segments=[[10240, "../../x"]]),
    "huge size": entry(2, size=HUGE, segments=[[HUGE, "a" * 64]]),
    "tensor below": tensor(0, begin=-5),
    "tensor beyond": tensor(1, end=1 << 50),
    "tensor backwards": tensor(0, begin=9, end=3),
    "tensor overlaps": tensor(1, begin=10),
    "tensor between segments": tensor(0, end=150),
    "negative shape": tensor(0, shape=[-1]),
    "huge shape": tensor(0, shape=[HUGE]),
    "shape of many": tensor(0, shape=[1] * 65),
    "a path is a number": entry(2, path=5),
    "a card is a list": lambda manifest: manifest["source"].update(card=[]),
    "a card of a megabyte": lambda manifest: manifest["source"].update(card={"x": "x" * (1 << 20)}),
}
"""Manifests that the format forbids, whatever filesystem is there."""

SOME_FILESYSTEMS = {
    "case": also("CONFIG.json"),
    "case of folders": also("Docs", "docs/x"),
    "Unicode": also("caf\u00e9", "cafe\u0301"),
    "sharp s": also("stra\u00dfe", "STRASSE"),
    "colon": also("a:b"),
    "stars": also('<a>|"?*'),
    "dot at the end": also("a.", "b /c"),
    "backslash": also("a\\b"),
    "escape": also("a\x1b[2Jb"),
    "newline": also("a\nb"),
    "C1 control": also("a\x85"),
    "reserved": also("CON", "nul"),
    "other scripts": also("\u8a9e/\U0001f600"),
    "long": also("x" * 255, "/".join(["y" * 255] * 4)),
    "like an option": also("-rf", "~", "...x", "--", ".partial-0123456789abcdef"),
}
"""What at least one filesystem can hold: it is kept, and restored there."""

LIES = {
    "wrong SHA-256": entry(2, sha256="0" * 64),
    "wrong BLAKE3": entry(2, blake3="0" * 64),
    "object of another size": entry(0, size=14, segments=[[14, OK_DIGEST]]),
    "object that is not there": entry(2, segments=[[10240, "c" * 64]]),
    "files swapped": entry(2, size=len(OK)),
}
"""Manifests that could be right, and are not."""
