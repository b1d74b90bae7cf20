"""Hostile archives made by hand, and commands run in a child whose peak of memory is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

HANDMADE = Path(__file__).parents[1] / "formats"
sys.path.insert(0, str(HANDMADE))

PEAK_MB = 400
"""What a reader may take, whatever an archive holds: the bound of docs/bounds.md."""
ENDS_SECONDS = 480
"""Far more than any of it takes on a busy machine; what never ends, fails."""

_MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, timeout=%d)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
sys.stdout.write(json.dumps([done.returncode, peak // 1024, *(
    text.decode("utf-8", "surrogateescape")[-200_000:] for text in (done.stdout, done.stderr))]))
"""


class Child(NamedTuple):
    """How a command ended, and the most memory (MB) that it had."""

    code: int
    peak: int
    out: str
    err: str

    def kinds(self, kind: str) -> list[dict]:
        rows = map(json.loads, self.out.splitlines())
        return [row for row in rows if row["kind"] == kind]

    @property
    def codes(self) -> set[str]:
        """The codes of what is damaged."""
        return {one["code"] for one in self.kinds("finding") if not one["remark"]}

    @property
    def remarks(self) -> set[str]:
        return {one["code"] for one in self.kinds("finding") if one["remark"]}

    def cheap(self) -> Child:
        """This, if it took little and ended with a sentence."""
        assert self.peak < PEAK_MB, f"{self.peak} MB\n{self.err[-2000:]}"
        assert "Traceback" not in self.err, self.err[-4000:]
        assert "did not expect" not in self.err, self.err[-4000:]
        return self


def measured(*command: object) -> Child:
    """Run a command as a child of a small process: what a large one forks would count as its own."""
    arguments = [sys.executable, "-c", _MEASURE % ENDS_SECONDS, *map(str, command)]
    done = subprocess.run(arguments, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return Child(*json.loads(done.stdout))


def archiver(*arguments: object) -> Child:
    """Run archiver in a child."""
    return measured(sys.executable, "-m", "archiver", *arguments)


def decode(root: Path, *arguments: object) -> Child:
    """Run the reader that every archive carries, on the archive in ``root``."""
    import archiver as package

    script = Path(package.__file__).parent / "carried" / "decode.py"
    return measured(sys.executable, "-I", script, "-C", root, *arguments)


# ---- archives by hand, each of one snapshot of Org/Model

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
    import handmade

    _, parts, tensors = tensor_file()
    return [
        handmade.described("config.json", [OK]),
        handmade.described("model.safetensors", parts) | {"tensors": tensors},
        handmade.described("text.bin", [TEXT]),
    ]


def good_pack() -> bytes:
    import handmade

    plains = [OK, TEXT, *tensor_file()[1]]
    return handmade.pack([(one, 0, handmade.object_frames(one, 0)) for one in plains])


def write_archive(root: Path, change=lambda _manifest: None, pack: bytes | None = None, **seal):
    """An archive of one snapshot whose manifest was changed before it was named; ``root``."""
    import handmade

    from archiver.archive import carried

    manifest = json.loads(handmade.manifest(plain_files()))
    change(manifest)
    if isinstance(manifest["files"], list):
        manifest["files"].sort(key=lambda file: str(file.get("path")))
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    data = text.encode("utf-8", "surrogatepass")
    pack = good_pack() if pack is None else pack
    handmade.write_identity(root)
    for name, content in carried.files():
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
    "backslash": renamed("a\\b"),
    "NUL": renamed("a\0b"),
    "escape": renamed("a\x1b[2Jb"),
    "C1 control": renamed("a\x85"),
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
