"""Whatever bytes lie in an archive, every command ends with a sentence and one of its exit codes."""

import json
import random
import socket
from typing import Any

import pytest
import zstandard
from blake3 import blake3
from kit.archive import Weights
from kit.cli import invoke
from kit.faults import flip, overwrite
from kit.repository import write_model

from archiver.archive.layout import manifest_name
from archiver.archive.packs import format as pack_format
from archiver.digest import blake3_hex
from archiver.errors import ExitCode

COMMANDS = (
    ("audit", "--level", "files"),
    ("audit", "--snapshot", "org/one"),
    ("status", "--packs", "--copies"),
    ("repair", "--no-upstream", "--dry-run"),
    ("prune", "--dry-run", "--grace", "0s"),
    ("forget", "org/two", "--undo", "--dry-run"),
    ("head",),
    ("head", "--check", "a" * 64),
)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory):
    """An archive that has a file of every kind, and the key that signed it."""
    root = tmp_path_factory.mktemp("hostile")
    archive = root / "weights"
    assert invoke("init", "-q", "-C", archive) == 0
    for seed, name in enumerate(("one", "two")):
        folder = write_model(root / name, seed * 10, 4)
        args = ["import", "-q", "-C", str(archive), str(folder), "--as", f"org/{name}"]
        assert invoke(*args, "--min-free", "0B") == 0
    assert invoke("keys", "new", root / "mine", "--no-password") == 0
    at = ["-q", "-C", str(archive)]
    assert invoke("policy", "set", *at, "--trust", root / "mine.pub") == 0
    assert invoke("sign", *at, "--key", root / "mine.key") == 0
    assert invoke("parity", "add", *at) == 0
    assert invoke("forget", *at, "org/two") == 0
    return Weights(archive), root / "mine.key"


@pytest.fixture
def weights(furnished, tmp_path):
    return furnished[0].copy(tmp_path / "weights")


@pytest.fixture
def everything(run, weights, furnished, tmp_path):
    """Run what reads all of the archive; an error that is not a domain error is raised here."""

    def call():
        at = ("-q", "-C", weights.root)
        for words in (
            *((command[0], *at, *command[1:]) for command in COMMANDS),
            ("parity", "status", *at),
            ("copy", *at, "--new", "--snapshot", "org/one", tmp_path / "copy"),
            ("sign", *at, "--key", furnished[1]),
        ):
            assert run(*words).code in set(ExitCode), words

    return call


def put(root, name, data):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    overwrite(path, data)


def canonical(record):
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def put_event(root, event, detail, **fields):
    """An event as whoever can write to the archive could make it; its id."""
    record = {"kind": "event", "format": 1, "event": event, "tool": "", "detail": detail}
    record |= {"time": "2026-11-23T00:00:00Z", "repository": "org/one", "revision": "0" * 40}
    data = canonical(record | {"after": []} | fields)
    put(root, f"journal/2026/11/20261123t000000z.{blake3_hex(data)}.json", data)
    return blake3_hex(data)


# ---- any bytes

KINDS = ("packs", "manifests", "snapshots", "journal", "parity", "signatures", "trash")
BODIES = {
    "random": lambda data: random.Random(1).randbytes(len(data)),
    "nested": lambda _data: b"[" * 100_000,
    "object": lambda _data: b'{"kind": null}',
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", [*KINDS, "archive.json", "catalogue.sqlite"])
def test_any_bytes_in_the_files_of_a_kind(weights, everything, kind, body):
    below = weights.root / kind
    files = [below] if below.is_file() else [one for one in below.rglob("*") if one.is_file()]
    assert files
    for path in files:
        overwrite(path, BODIES[body](path.read_bytes()))
    everything()


# ---- documents that are what their names say, and lie

LISTS = ("snapshots", "packs", "files", "documents", "keys", "objects")
TEXTS = (
    *("snapshot", "name", "level", "from", "to", "source", "place", "key", "damaged"),
    *("id", "from_id", "to_id"),
)
VALUES: tuple[Any, ...] = (None, [], {}, "../x", [[]], 2**70)


@pytest.mark.parametrize(
    "event", ["sealed", "audited", "policy", "copied", "copy-lost", "forgotten", "condemned"]
)
def test_details_of_events_of_other_types(weights, everything, event):
    for value in VALUES:
        put_event(weights.root, event, dict.fromkeys((*LISTS, *TEXTS), value))
        put_event(weights.root, event, dict.fromkeys(TEXTS, value) | {"level": "content"})
    everything()


@pytest.mark.parametrize("event", ["sealed", "audited", "copied"])
def test_times_and_names_that_no_event_has(weights, everything, event):
    detail = {"snapshot": "../x", "level": "content", "packs": ["x"], "files": ["packs/x", "../x"]}
    for time in ("", "zzzz", "9999-12-31T23:59:59Z", "../../x", "\x00"):
        put_event(weights.root, event, detail, time=time)
    for repository in ("", "../..", "x" * 3000, "a/b/c", "\x1b[31m"):
        put_event(weights.root, event, detail, repository=repository, revision="../..")
    put_event(weights.root, event, detail, after=["", "x", "../..", "f" * 64, "\x1b"])
    everything()


def test_the_journal_may_tell_of_a_seal_that_cannot_be(run, weights):
    put_event(weights.root, "sealed", {"snapshot": "f" * 64}, repository="../..")
    found = run("audit", "-q", "--json", "-C", weights.root)
    assert (found.code, found.codes) == (20, {"seal-missing"})


def lie(root, change_seal=None, change_manifest=None):
    """Replace the seal of org/one, and the manifest that it names, by others that fit their names."""
    (path,) = (root / "snapshots/org/one").iterdir()
    seal = json.loads(path.read_bytes())
    path.unlink()
    old = root / manifest_name(seal["repository"], seal["revision"], seal["manifest"]["blake3"])
    manifest = json.loads(zstandard.ZstdDecompressor().decompress(old.read_bytes()))
    for change, told in ((change_manifest, manifest), (change_seal, seal)):
        if change is not None:
            change(told)
        if told is manifest:
            plain = canonical(manifest)
            seal["manifest"] = {"blake3": blake3_hex(plain), "size": len(plain)}
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(plain)
    name = f"org/one/{seal['revision']}.{blake3_hex(plain)}.json.zst"
    put(root, f"manifests/{name}", packed)
    data = canonical(seal)
    put(root, f"snapshots/org/one/{seal['revision']}.{blake3_hex(data)}.json", data)


HUGE = 10**300
SEALS = {
    "sealed": {"sealed": "zzz"},
    "packs": {"packs": [["a" * 64, -5], ["a" * 64, HUGE]]},
    "no packs": {"packs": []},
    "totals": {"totals": dict.fromkeys(("files", "bytes", "objects", "stored", "tensors"), HUGE)},
    "manifest": {"manifest": {"blake3": "0" * 64, "size": HUGE}},
    "features": {"features": {"read": ["x"], "write": ["y"]}},
}


@pytest.mark.parametrize("fields", SEALS.values(), ids=SEALS)
def test_seals_that_lie(weights, everything, fields):
    lie(weights.root, change_seal=lambda seal: seal.update(fields))
    everything()


FILES = {
    "path": {"path": "../../x"},
    "digests": {"sha256": "x", "blake3": "y", "oid": "z"},
    "segment": {"segments": [[HUGE, "a" * 64]], "size": HUGE},
    "nothing": {"segments": []},
}
TENSORS = {
    "shape": {"shape": [10**400]},
    "no shape": {"shape": [-1, 0]},
    "below": {"begin": -5, "end": -1},
    "beyond": {"begin": HUGE, "end": HUGE * 2},
    "backwards": {"begin": 99_999, "end": 3},
}


def change_weights(root, change):
    """Let the manifest of org/one lie of its safetensors file."""

    def lying(manifest):
        change(next(one for one in manifest["files"] if "tensors" in one))

    lie(root, change_manifest=lying)


@pytest.mark.parametrize("fields", FILES.values(), ids=FILES)
def test_manifests_that_lie_of_a_file(weights, everything, fields):
    change_weights(weights.root, lambda entry: entry.update(fields))
    everything()


@pytest.mark.parametrize("fields", TENSORS.values(), ids=TENSORS)
def test_manifests_that_lie_of_tensors_that_are_damaged(weights, everything, fields):
    def change(entry):
        for one in entry["tensors"]:
            one.update(fields)

    change_weights(weights.root, change)
    for pack in (weights.root / "packs").rglob("*.pack"):
        flip(pack)
    everything()


HEADERS = {
    "size": {"size": HUGE},
    "no size": {"size": -1},
    "block": {"block": 0},
    "blocks": {"block": 1 << 40, "blocks": []},
    "groups": {"groups": -1},
    "group": {"groups": HUGE},
    "parity": {"parity": HUGE},
    "file": {"file": "../../x"},
    "digest": {"blake3": "0" * 64},
}


@pytest.mark.parametrize("fields", HEADERS.values(), ids=HEADERS)
def test_sidecars_that_lie_of_damaged_files(weights, everything, fields):
    for path in (weights.root / "parity").rglob("*.par"):
        data = path.read_bytes()
        end = pack_format.PREFIX_SIZE + pack_format.read_prefix(data)[1]
        text = canonical(json.loads(data[pack_format.PREFIX_SIZE + 32 : end]) | fields)
        frame = pack_format.skippable(pack_format.PARITY_HEADER, blake3(text).digest() + text)
        blocks = data[end : -end - pack_format.TRAILER_SIZE]
        overwrite(path, frame + blocks + frame + pack_format.trailer(len(frame) + len(blocks)))
    for pack in (weights.root / "packs").rglob("*.pack"):
        flip(pack)
    everything()


# ---- files that a person, or another program, left there


@pytest.mark.parametrize(
    "folder", ["trash", "trash/20261123t000000z", "quarantine", "tmp", "packs"]
)
def test_names_that_an_archive_never_gives(weights, everything, folder):
    for name in (".DS_Store", "Thumbs.db", "x y", "\x1b[31m", "\udcff", "new\nline", "a" * 200):
        put(weights.root / folder, name, b"")
    everything()


def test_a_name_that_is_no_text_is_told_as_it_is(run, weights):
    put(weights.root, "x\udcff", b"")
    found = run("audit", "-q", "--json", "-C", weights.root)
    assert "x\udcff" in [one.get("path") for one in found.kinds("finding")]


def test_a_foreign_file_in_the_trash_stops_nobody(run, weights):
    put(weights.root, "trash/20261123t000000z/.DS_Store", b"")
    assert run("prune", "-q", "-C", weights.root, "--grace", "0s").code == 0
    assert run("forget", "-q", "-C", weights.root, "org/two", "--undo").code == 3


@pytest.mark.parametrize("needs", [None, {}, [None], ["../x", "", "archive.json"]], ids=str)
def test_announcements_that_lie(weights, everything, needs):
    record = {"kind": "intent", "host": socket.gethostname(), "needs": needs}
    put(weights.root, "tmp/intent-x-1-a", canonical(record))
    everything()
