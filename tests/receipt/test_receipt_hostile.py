"""Receipts that were changed, forged, replayed or are of another place: each is told, and none counts."""

from __future__ import annotations

import json
import os
import uuid

import pytest
from receiptkit import Sides, rewritten, signed_anew

from archiver.archive.archive import Archive
from archiver.archive.events import ReceiptAccepted, new_event
from archiver.archive.receipts import RECEIPT_MAX

HASH = "0" * 64


@pytest.fixture
def refused(sides, capfd):
    """A receipt that is not accepted: nothing is journalled, and the next step is named."""

    def call(path, code, said, *words):
        done = sides.accept(path, *words, code=code)
        assert said in done.out, done.out
        assert not sides.accepted()
        assert set(sides.copies().values()) <= {1}
        (error,) = done.kinds("error")
        assert error["hint"] or code == 20
        return error

    return call


def test_a_changed_byte(sides, refused):
    path = sides.receipt()
    signature = path.with_name(f"{path.name}.minisig")
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        done = sides.accept(path, code=20)
        assert not sides.accepted(), done
    path.write_bytes(data)
    good = signature.read_bytes()
    value, text = good.index(b"\n") + 40, good.index(b"trusted comment: receipt") + 30
    for at in (value, text, len(good) - 20):
        signature.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        refused(path, 20, "")
    signature.write_bytes(b"no signature at all\n")
    refused(path, 20, "is not a signature")
    signature.write_bytes(b"x" * 20_000)
    refused(path, 20, "too large")
    signature.write_bytes(good.replace(b"untrusted comment: ", b"untrusted comment: \xff"))
    refused(path, 20, "no text")
    signature.write_bytes(good)
    assert sides.accept(path).only("receipt-accept")["standing"] == "counts"


def test_a_forger_who_knows_the_format_has_not_the_key(sides, refused):
    """The check of the document is right then, and only the signature tells."""
    path = sides.receipt()
    rewritten(path, time="2026-01-02T03:04:05Z", snapshots=[], troubled=[])
    refused(path, 20, "is not what the key")


def test_a_signature_of_another_receipt(sides, refused):
    first, second = sides.receipt(), sides.receipt("org/one")
    first.with_name(f"{first.name}.minisig").replace(f"{second}.minisig")
    refused(second, 20, "is not what the key")
    # Nor does one help that is named: it is of the right key, and of another file.
    refused(second, 20, "is not what the key", "--signature", f"{second}.minisig")
    refused(first, 2, "There is no signature", "--signature", f"{first}.minisig")


def test_a_key_that_has_the_id_of_a_trusted_one(sides, refused):
    path = sides.receipt()
    stranger = sides.key("stranger")
    trusted = json.loads(sides.at_home("keys", "show", sides.folder / "far.pub").out)["id"]
    signed_anew(path, stranger._replace(id=trusted))
    refused(path, 20, "is not what the key")


def test_a_receipt_of_another_archive(sides, run, refused, tmp_path):
    """The same receipt, shown to another archive: its id says so, and no bundle of that one came in."""
    path = sides.receipt()
    other = tmp_path / "other"
    assert run("init", "-q", "-C", other).code == 0
    sides.home = other
    sides.at_home("policy", "set", "--trust", sides.folder / "far.pub")
    refused(path, 22, "is of another archive")


def test_a_receipt_whose_archive_was_changed_to_ours(sides, refused, tmp_path):
    """Whoever signs may say which archive it is of: what counts is the seals that are here."""
    path = sides.receipt()
    listed = json.loads(path.read_bytes())["snapshots"]
    rewritten(path, snapshots=[listed[0] | {"id": HASH}])
    signed_anew(path, far_key(sides))
    refused(path, 22, "none of them is held here")


def far_key(sides: Sides):
    from archiver.archive.signing.keys import read_secret_key

    return read_secret_key(sides.folder / "far.key").unlock()


@pytest.mark.parametrize("key", ["repository", "revision", "packs", "bytes"])
def test_a_seal_of_which_it_says_something_else(sides, refused, key):
    path = sides.receipt()
    (listed,) = json.loads(path.read_bytes())["snapshots"]
    value = (
        "org/two" if key == "repository" else HASH[:40] if key == "revision" else listed[key] + 1
    )
    rewritten(path, snapshots=[listed | {key: value}])
    signed_anew(path, far_key(sides))
    refused(path, 22, "says of the seal")


def test_what_is_not_held_here_is_said_and_does_not_count(sides):
    path = sides.receipt()
    (listed,) = json.loads(path.read_bytes())["snapshots"]
    rewritten(path, snapshots=[listed, listed | {"id": HASH, "repository": "org/three"}])
    signed_anew(path, far_key(sides))
    accepted = sides.accept(path).only("receipt-accept")
    assert accepted["unknown"] == [f"org/three@{listed['revision'][:12]}"]
    assert sides.copies() == {"org/one": 2, "org/two": 1}
    assert sides.place()["snapshots"] == 1


def test_a_receipt_of_this_very_place(sides, refused):
    path = sides.folder / "own.json"
    sides.at_home("receipt", "write", "-o", path, "--sign", sides.folder / "far.key")
    refused(path, 22, "of this very place")


def of_another_archive(path):
    """Let a receipt tell of an archive that was begun anew, at the same place."""
    own = json.loads(path.read_bytes())
    rewritten(path, archive=str(uuid.uuid4()), origins=[own["archive"]])
    return own["place"]


def test_a_place_that_was_that_of_another_archive(sides, later):
    sides.accept(sides.receipt())
    path = sides.receipt()
    place = of_another_archive(path)
    signed_anew(path, far_key(sides))
    assert "told of the archive" in sides.accept(path, code=22).out
    sides.at_home("copy", "--lost", place)
    with later(1):
        path = sides.receipt()
        of_another_archive(path)
        signed_anew(path, far_key(sides))
        assert sides.accept(path).only("receipt-accept")["standing"] == "counts"


def test_a_claim_of_another_archive_keeps_no_signed_receipt_out(sides):
    path = sides.receipt(key="")
    of_another_archive(path)
    assert sides.accept(path, code=4).only("receipt-accept")["standing"] == "claim"
    assert sides.accept(sides.receipt()).only("receipt-accept")["standing"] == "counts"
    assert sides.copies()["org/one"] == 2


def test_what_was_written_before_a_place_was_lost_is_no_copy_after_it(sides, later):
    """A disk is lost; a receipt of it that is brought again, or comes late, brings it not back."""
    old, late = sides.receipt(), sides.receipt("org/one")
    sides.accept(old)
    sides.at_home("copy", "--lost", json.loads(old.read_bytes())["place"])
    for path in (old, late):
        assert "noted as lost" in sides.accept(path, code=22).out
    # Nor if somebody else took it in, whose journal came here.
    text, signature = old.read_text(), old.with_name(f"{old.name}.minisig").read_text()
    detail = ReceiptAccepted(json.loads(text)["place"], HASH, text, signature)
    with later(1):
        Archive.open(sides.home).record(new_event(detail))
        assert sides.copies()["org/one"] == 1
    with later(1):
        sides.accept(sides.receipt())
        assert sides.copies()["org/one"] == 2


def test_a_receipt_of_a_time_to_come(sides, refused, later):
    with later(3):
        path = sides.receipt()
    refused(path, 22, "says that it was written at")
    # A day may lie between two clocks; it is counted from when it was accepted.
    with later(0.5):
        path = sides.receipt()
    sides.accept(path)
    assert sides.place()["seen"] < json.loads(path.read_bytes())["time"]


@pytest.mark.parametrize(
    "keys",
    [
        {"archive": "x"},
        {"place": 7},
        {"place": "../../etc"},
        {"name": "x\x1b[2J"},
        {"name": "x" * 256},
        {"name": None},
        {"name": ""},
        {"name": "  "},
        {"time": "yesterday"},
        {"time": "2026-13-01T00:00:00Z"},
        {"heads": [HASH] * 1001},
        {"heads": ["x"]},
        {"snapshots": {}},
        {"snapshots": [[]]},
        {"snapshots": "all"},
        {"part": "yes"},
        {"medium": "tape"},
        {"devices": ["x"] * 65},
        {"devices": ["x" * 300]},
        {"origins": ["x"]},
        {"bundles": [1]},
        {"kind": "inventory"},
        {"features": []},
        {"tool": ["a"]},
    ],
    ids=str,
)
def test_weird_types(sides, refused, keys):
    path = sides.receipt()
    rewritten(path, **keys)
    signed_anew(path, far_key(sides))
    refused(path, 20, "")


@pytest.mark.parametrize(
    "keys",
    [
        {"bytes": -1},
        {"packs": 2**70},
        {"stored": ""},
        {"stored": "9999-01-01T00:00:00Z"},
        {"held": "9999-01-01T00:00:00Z"},
        {"id": "x"},
        {"revision": []},
    ],
    ids=str,
)
def test_snapshots_that_cannot_be(sides, refused, keys):
    path = sides.receipt()
    (listed,) = json.loads(path.read_bytes())["snapshots"]
    rewritten(path, snapshots=[listed | keys])
    signed_anew(path, far_key(sides))
    refused(path, 20, "")


def test_a_snapshot_twice(sides, refused):
    path = sides.receipt()
    (listed,) = json.loads(path.read_bytes())["snapshots"]
    rewritten(path, snapshots=[listed, listed])
    signed_anew(path, far_key(sides))
    refused(path, 20, "names a snapshot twice")


def test_files_that_are_no_receipt(sides, refused, tmp_path):
    path = tmp_path / "no.json"
    refused(path, 2, "There is no receipt")
    os.mkfifo(path)
    refused(path, 2, "There is no receipt")
    path.unlink()
    path.mkdir()
    refused(path, 2, "There is no receipt")
    path.rmdir()
    for data in (
        b"",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{" * 250_000,
        b'{"a":' * 50_000,
        b"null",
    ):
        path.write_bytes(data)
        refused(path, 20, "")
    path.write_bytes(b" " * (RECEIPT_MAX + 1))
    refused(path, 20, "more than")
    sides.at_home("inventory", "-o", tmp_path / "inventory.json")
    refused(tmp_path / "inventory.json", 20, "")


def test_json_that_is_not_canonical(sides, refused):
    path = sides.receipt()
    good = path.read_bytes()
    for data in (
        good[:-1],
        good + b"\n",
        good.replace(b'"part"', b' "part"'),
        b'{"archive":"x",' + good[1:],
    ):
        path.write_bytes(data)
        signed_anew(path, far_key(sides))
        refused(path, 20, "")


def test_a_newer_format_is_not_read(sides, refused):
    path = sides.receipt()
    for keys in ({"format": 2}, {"features": {"read": ["later"], "write": []}}):
        rewritten(path, **keys)
        signed_anew(path, far_key(sides))
        refused(path, 10, "this version of archiver knows format 1")


def test_keys_of_a_later_version_are_ignored_and_kept(sides):
    path = sides.receipt()
    rewritten(path, later={"x": [1]})
    signed_anew(path, far_key(sides))
    assert sides.accept(path).only("receipt-accept")["standing"] == "counts"
    (event,) = sides.at_home("log", "--kind", "receipt-accepted").kinds("event")
    assert event["detail"]["text"].encode() == path.read_bytes()


def test_whoever_can_write_to_the_journal_cannot_make_a_copy_of_nothing(sides):
    """The event has the receipt's bytes and its signature: without one by a trusted key it is nothing."""
    path = sides.receipt()
    text, place = path.read_text(), json.loads(path.read_bytes())["place"]
    signature = path.with_name(f"{path.name}.minisig").read_text()
    changed = text.replace('"part":false', '"part":true')
    archive = Archive.open(sides.home)
    for detail in (
        ReceiptAccepted(place, HASH, text, ""),
        ReceiptAccepted(place, HASH, changed, signature),
        ReceiptAccepted(str(uuid.uuid4()), HASH, text, signature),
        ReceiptAccepted(place, HASH, "no receipt", signature),
        ReceiptAccepted(place, HASH, text, "no signature"),
        ReceiptAccepted(place, "", "", ""),
    ):
        archive.record(new_event(detail))
    assert sides.copies()["org/one"] == 1
    assert sides.at_home("log", "--kind", "receipt-accepted").code == 0
    archive.record(new_event(ReceiptAccepted(place, HASH, text, signature)))
    assert sides.copies()["org/one"] == 2


def test_what_this_place_said_of_itself_proves_nothing_here(sides):
    """Accepted at a copy of the archive, such a receipt comes home with its journal."""
    path = sides.folder / "own.json"
    sides.at_home("receipt", "write", "-o", path, "--sign", sides.folder / "far.key")
    signature = path.with_name(f"{path.name}.minisig").read_text()
    place = json.loads(path.read_bytes())["place"]
    detail = ReceiptAccepted(place, HASH, path.read_text(), signature)
    Archive.open(sides.home).record(new_event(detail))
    (here,) = sides.at_home("status", "--copies", code=24).kinds("place")
    assert (here["standing"], here["receipt"], here["signer"]) == ("here", "", "")


def test_a_time_to_come_counts_for_nothing_however_it_came_into_the_journal(sides, later):
    with later(3):
        path = sides.receipt()
    signature = path.with_name(f"{path.name}.minisig").read_text()
    place = json.loads(path.read_bytes())["place"]
    detail = ReceiptAccepted(place, HASH, path.read_text(), signature)
    Archive.open(sides.home).record(new_event(detail))
    assert sides.copies()["org/one"] == 1


def test_what_a_trusted_key_signed_of_another_seal_counts_for_nothing(sides):
    """Also if it came into the journal past the command that would have refused it."""
    path = sides.receipt()
    (listed,) = json.loads(path.read_bytes())["snapshots"]
    rewritten(path, snapshots=[listed | {"packs": 7}])
    signed_anew(path, far_key(sides))
    place = json.loads(path.read_bytes())["place"]
    signature = path.with_name(f"{path.name}.minisig").read_text()
    Archive.open(sides.home).record(
        new_event(ReceiptAccepted(place, HASH, path.read_text(), signature))
    )
    assert sides.copies()["org/one"] == 1
    assert sides.place()["snapshots"] == 0


def test_a_claim_is_no_advice_to_trust_somebody(sides):
    sides.key("stranger")
    sides.accept(sides.receipt(key="stranger"), code=4)
    for shortfall in sides.at_home("status", code=24).kinds("shortfall"):
        assert "trust" not in shortfall["next"]


def test_a_receipt_that_says_too_much_makes_a_bundle_that_waits(sides):
    """As an inventory: the import names what is missing."""
    path = sides.receipt()
    (listed,) = json.loads(path.read_bytes())["snapshots"]
    (two,) = Archive.open(sides.home).snapshots_of("org/two")
    packs = two.seal.packs
    too_much = {
        "id": two.id,
        "repository": "org/two",
        "revision": two.seal.revision,
        "packs": len(packs),
        "bytes": sum(size for _, size in packs),
    }
    rewritten(path, snapshots=[listed | too_much])
    media = sides.folder / "media"
    sent = sides.at_home("bundle", "export", "org/two", "--to", media, "--not-in", path)
    assert sent.only("bundle-export")["left_out"] == 1
    came = sides.there("bundle", "import", "--min-free", "0", media, code=3)
    (waiting,) = came.only("bundle-import")["waiting"]
    assert waiting["elsewhere"] == 1
