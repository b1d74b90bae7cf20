"""A receipt comes back over the gap: it counts at home while it is fresh and a trusted key signed it."""

from __future__ import annotations

import json

from receiptkit import rewritten, signed_anew, take_in

from archiver.archive.archive import Archive
from archiver.archive.events import SmokeTested, new_event
from archiver.archive.signing.keys import read_secret_key


def test_a_bundle_goes_and_a_receipt_comes_back(sides):
    path = sides.receipt("--name", "the vault")
    told = json.loads(path.read_bytes())
    (snapshot,) = told["snapshots"]
    assert (snapshot["repository"], snapshot["packs"]) == ("org/one", 1)
    assert snapshot["stored"] == snapshot["content"] == snapshot["files"]  # the import proved it
    assert (len(told["bundles"]), told["name"], told["part"]) == (1, "the vault", False)
    assert sides.copies() == {"org/one": 1, "org/two": 1}

    accepted = sides.accept(path).only("receipt-accept")
    assert (accepted["standing"], accepted["state"]) == ("counts", "accepted")
    assert sides.copies() == {"org/one": 2, "org/two": 1}
    place = sides.place()
    assert (place["standing"], place["place"], place["presence"]) == (
        "counts",
        "the vault",
        "not-looked",
    )
    assert (place["snapshots"], place["receipt"], place["proven"]) == (
        1,
        told["time"],
        snapshot["stored"],
    )

    sides.carry("org/two")
    sides.accept(sides.receipt())
    assert sides.place(code=0)["snapshots"] == 2
    assert sides.copies() == {"org/one": 2, "org/two": 2}


def test_an_import_writes_the_receipt_itself(sides):
    path, key = sides.folder / "back.json", sides.folder / "far.key"
    _, came = sides.carry("org/two", words=("--receipt", path, "--sign", key))
    written = came.only("receipt-written")
    assert (written["file"], len(written["receipt"]["snapshots"])) == (str(path), 2)
    assert sides.accept(path).only("receipt-accept")["standing"] == "counts"
    assert sides.copies() == {"org/one": 2, "org/two": 2}
    # Before anything is taken in it is known whether the receipt can be written.
    sides.there("bundle", "import", "--receipt", path, sides.folder / "media1", code=2)
    sides.there("bundle", "import", "--sign", key, sides.folder / "media1", code=2)


def test_a_copy_that_a_receipt_tells_of_grows_old(sides, later):
    sides.at_home("policy", "set", "--copy-age", "30d")
    sides.accept(sides.receipt())
    with later(29):
        assert sides.copies()["org/one"] == 2
    with later(31):
        assert sides.copies()["org/one"] == 1
        assert sides.place()["standing"] == "proof-old"
        # A new receipt of an old proof is no new proof; an audit there is.
        sides.accept(sides.receipt())
        assert sides.copies()["org/one"] == 1
        sides.there("audit")
        sides.accept(sides.receipt())
        assert sides.copies()["org/one"] == 2


def test_each_snapshot_behind_the_gap_has_its_own_age(sides, later):
    sides.at_home("policy", "set", "--copy-age", "30d")
    with later(20):
        sides.carry("org/two")
        sides.accept(sides.receipt())
    with later(40):
        assert sides.copies() == {"org/one": 1, "org/two": 2}
        place = sides.place()
        assert (place["standing"], place["snapshots"], place["aged"]) == ("counts", 1, 1)


def test_a_far_clock_that_runs_ahead_gains_nothing(sides, later):
    sides.at_home("policy", "set", "--copy-age", "30d")
    with later(0.9):
        sides.there("audit")
        path = sides.receipt()
    sides.accept(path)
    with later(
        30.5
    ):  # 30.5 days since it was accepted here, 29.6 since it says that it was written
        assert sides.copies()["org/one"] == 1


def test_what_no_trusted_key_signed_is_a_claim(sides):
    unsigned = sides.receipt(key="")
    assert sides.accept(unsigned, code=4).only("receipt-accept")["standing"] == "claim"
    assert sides.copies()["org/one"] == 1
    place = sides.place()
    assert (place["standing"], place["signer"], place["proven"]) == ("claim", "", "")
    stranger = sides.key("stranger")
    signed_anew(unsigned, stranger)
    assert sides.accept(unsigned, code=4).only("receipt-accept")["state"] == "accepted"
    assert sides.accept(unsigned, code=4).only("receipt-accept")["state"] == "before"
    assert sides.copies()["org/one"] == 1
    # Once its key is trusted, what was accepted before counts; and no more when it is not.
    sides.at_home("policy", "set", "--trust", sides.folder / "stranger.pub")
    assert sides.copies()["org/one"] == 2
    key = sides.place()["signer"]
    sides.at_home("policy", "set", "--distrust", key)
    assert sides.copies()["org/one"] == 1


def test_a_claim_shadows_nothing(sides, later):
    sides.accept(sides.receipt())
    with later(2):
        sides.accept(sides.receipt("org/one", key=""), code=4)
        assert (sides.copies()["org/one"], sides.place()["standing"]) == (2, "counts")


def test_a_claim_does_not_rename_a_place(sides, later):
    sides.accept(sides.receipt("--name", "the vault"))
    with later(2):
        sides.accept(sides.receipt("--name", "elsewhere", key=""), code=4)
        assert sides.place()["place"] == "the vault"
        sides.at_home("copy", "--lost", "elsewhere", code=2)
        sides.at_home("copy", "--lost", "the vault")
        assert sides.copies()["org/one"] == 1


def test_an_older_receipt_undoes_nothing(sides, later):
    older = sides.receipt()
    with later(1):
        sides.carry("org/two")
        newer = sides.receipt()
        sides.accept(newer)
        again = sides.accept(newer).only("receipt-accept")
        assert again["state"] == "before"
        late = sides.accept(older).only("receipt-accept")
        assert (late["state"], late["newer"]) == ("older", json.loads(newer.read_bytes())["time"])
        assert sides.accepted() == 1
        assert sides.copies() == {"org/one": 2, "org/two": 2}


def test_a_receipt_of_chosen_snapshots_adds_to_the_others(sides, later):
    sides.accept(sides.receipt())
    with later(1):
        sides.carry("org/two")
        path = sides.receipt("org/two")
        assert json.loads(path.read_bytes())["part"] is True
        sides.accept(path)
        assert sides.copies() == {"org/one": 2, "org/two": 2}


def test_what_the_far_side_lost_counts_no_more(sides, later):
    sides.accept(sides.receipt())
    (pack,) = sides.far.rglob("*.pack")
    data = pack.read_bytes()
    pack.unlink()
    with later(1):
        told = sides.accept(sides.receipt()).only("receipt-accept")
        assert [trouble for _, trouble in told["troubled"]] == ["missing"]
        assert sides.copies()["org/one"] == 1
        assert sides.place()["troubled"] == 1
    pack.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with later(2):
        sides.there("audit", code=20)
        told = sides.accept(sides.receipt()).only("receipt-accept")
        assert [trouble for _, trouble in told["troubled"]] == ["damaged"]
        assert sides.copies()["org/one"] == 1


def test_what_a_newer_receipt_does_not_list_is_not_there_any_more(sides, later):
    sides.carry("org/two")
    sides.accept(sides.receipt())
    assert sides.copies() == {"org/one": 2, "org/two": 2}
    with later(1):
        path = sides.receipt()
        listed = json.loads(path.read_bytes())["snapshots"]
        rewritten(path, snapshots=[each for each in listed if each["repository"] == "org/two"])
        signed_anew(path, read_secret_key(sides.folder / "far.key").unlock())
        sides.accept(path)
        assert sides.copies() == {"org/one": 1, "org/two": 2}


def test_a_receipt_outweighs_what_a_copy_proved_before(sides, far_disk, later):
    sides.far = far_disk / "replica"
    sides.at_home("copy", "--new", "--min-free", "0", sides.far)
    assert sides.copies({}) == {"org/one": 2, "org/two": 2}
    (one,) = Archive.open(sides.home).snapshots_of("org/one")
    for pack, _ in one.seal.packs:
        next(sides.far.rglob(f"{pack}.pack")).unlink()
    with later(1):
        sides.accept(sides.receipt())
        assert sides.copies({}) == {"org/one": 1, "org/two": 2}


def test_a_receipt_on_the_same_disk_is_no_second_copy(sides, tmp_path):
    far = sides.far
    sides.far = tmp_path / "next-to-it"
    sides.carry("org/one", words=("--new",))
    sides.accept(sides.receipt())
    assert sides.copies()["org/one"] == 1
    assert sides.place()["standing"] == "same-device"
    sides.far = far


def test_a_place_that_is_lost_takes_its_receipts_along(sides):
    sides.accept(sides.receipt("--name", "the vault"))
    sides.at_home("copy", "--lost", "the vault")
    assert sides.copies()["org/one"] == 1
    assert len(sides.at_home("status", "--copies", code=24).kinds("place")) == 1
    sides.at_home("copy", "--lost", "nowhere", code=2)


def test_each_side_learns_what_the_other_has_of_its_words(sides, later):
    path = sides.receipt()
    first = json.loads(path.read_bytes())
    inventory = sides.folder / "inventory.json"
    with later(1):
        newest = json.loads(sides.receipt().read_bytes())
        sides.there("inventory", "-o", inventory)
    assert json.loads(inventory.read_bytes())["receipts"] == [newest["check"]]
    _, came = sides.carry("org/two")
    assert came.only("bundle-import")["acknowledged"] == ""
    sides.accept(path)
    _, came = sides.carry("org/one", "org/two")
    assert came.only("bundle-import")["acknowledged"] == first["time"]
    bundle = json.loads((sides.folder / "media3" / "volume-0001" / "bundle.json").read_bytes())
    assert bundle["receipts"] == [[first["place"], first["check"]]]


def test_the_next_bundle_carries_only_what_is_new(sides):
    take_in(sides.home, sides.folder / "one", "org/one", 3)
    path = sides.receipt("--name", "the vault")
    nowhere = ("--to", sides.folder / "none")
    dry = sides.at_home("bundle", "export", "org/one", *nowhere, "-n", "--not-in", path)
    assert dry.only("bundle-export")["left_out"] == 0  # its newest revision is not there yet
    sides.accept(path)
    sides.carry("org/one")
    sides.accept(sides.receipt("--name", "the vault"))
    sent, came = sides.carry("org/one", "org/two", export=("--not-in", "the vault"))
    assert (sent["left_out"], sent["packs"]) == (1, 1)
    assert came.only("bundle-import")["published"] == [
        title for title in sent["snapshots"] if title.startswith("org/two")
    ]
    place = sides.place()["id"]
    dry = sides.at_home("bundle", "export", "org/one", *nowhere, "-n", "--not-in", place)
    assert (dry.only("bundle-export")["left_out"], dry.only("bundle-export")["packs"]) == (1, 0)
    lost = sides.at_home("bundle", "export", "org/one", *nowhere, "--not-in", "nowhere", code=2)
    assert "the vault" in lost.out


def test_what_a_receipt_tells_besides_what_is_known_here_leaves_nothing_out(sides):
    path = sides.receipt()
    (listed,) = json.loads(path.read_bytes())["snapshots"]
    words = ("bundle", "export", "org/one", "-n", "--to", sides.folder / "none", "--not-in", path)
    rewritten(path, snapshots=[listed, listed | {"id": "0" * 64, "repository": "org/three"}])
    assert sides.at_home(*words).only("bundle-export")["left_out"] == 1
    rewritten(path, snapshots=[listed | {"packs": 7}])
    assert "tells of no snapshot that is held here" in sides.at_home(*words, code=2).out


def test_what_the_far_side_said_last_and_signed_goes_before_a_claim(sides, later):
    """A stranger's word about the same place makes no bundle that lacks something there."""
    sides.accept(sides.receipt("--name", "the vault"))
    with later(1):
        claim = sides.receipt("--name", "the vault", key="")
        two = next(each for each in Archive.open(sides.home).snapshots_of("org/two"))
        (listed,) = json.loads(claim.read_bytes())["snapshots"]
        forged = listed | {
            "id": two.id,
            "repository": "org/two",
            "revision": two.seal.revision,
            "bytes": sum(size for _, size in two.seal.packs),
        }
        rewritten(claim, snapshots=[listed, forged])
        sides.accept(claim, code=4)
        nowhere = ("-n", "--to", sides.folder / "none", "--not-in", "the vault")
        dry = sides.at_home("bundle", "export", "org/one", "org/two", *nowhere)
        assert (dry.only("bundle-export")["left_out"], dry.only("bundle-export")["packs"]) == (1, 1)
        assert sides.place()["claimed"] == json.loads(claim.read_bytes())["time"]


def test_a_part_and_the_rest_are_both_left_out(sides, later):
    sides.accept(sides.receipt("--name", "the vault"))
    with later(1):
        sides.carry("org/two")
        sides.accept(sides.receipt("org/two", "--name", "the vault"))
        nowhere = ("-n", "--to", sides.folder / "none", "--not-in", "the vault")
        dry = sides.at_home("bundle", "export", "org/one", "org/two", *nowhere)
        assert (dry.only("bundle-export")["left_out"], dry.only("bundle-export")["packs"]) == (2, 0)


def test_a_far_archive_of_its_own_tells_of_what_came_from_here(sides, run, far_disk):
    """It has another id, and bundles of several archives may have come there."""
    sides.far = far_disk / "theirs"
    assert run("init", "-q", "-C", sides.far).code == 0
    path = sides.receipt()
    assert "is of another archive" in sides.accept(path, code=22).out  # nothing came there yet
    sides.carry("org/one")
    path = sides.receipt()
    told = json.loads(path.read_bytes())
    assert told["archive"] != told["origins"][0]
    sides.accept(path)
    assert sides.copies() == {"org/one": 2, "org/two": 1}


def test_receipts_go_along_with_a_copy_of_the_archive(sides, far_disk):
    sides.accept(sides.receipt())
    replica = far_disk / "replica"
    sides.at_home("copy", "--new", replica, "--min-free", "0")
    sides.home = replica
    assert sides.accepted() == 1
    # Here it lies on the far side's disk, which is no second place; home is one.
    assert sides.copies()["org/one"] == 2


def test_a_receipt_accepted_at_a_copy_comes_home_with_the_next_copy(sides, tmp_path):
    home, replica = sides.home, tmp_path / "replica"
    sides.at_home("copy", "--new", replica, "--min-free", "0")
    sides.home = replica
    sides.accept(sides.receipt())
    sides.home = home
    assert sides.copies()["org/one"] == 1
    sides.at_home("copy", replica, "--min-free", "0")
    assert sides.copies()["org/one"] == 2


def test_status_and_report_tell_of_it(sides, run, later):
    sides.accept(sides.receipt("--name", "the vault"))
    signer = sides.place()["signer"]
    said = run("-C", sides.home, "status").out
    assert "Told by receipt: the vault: a receipt of " in said
    assert f"signed by the key {signer}." in said
    assert run("-C", sides.home, "report", "-q").code == 0
    report = sides.home / "report.html"
    facts = json.loads(report.with_suffix(".json").read_bytes())
    (place,) = [each for each in facts["places"] if each["state"]["standing"] != "here"]
    assert (place["packs"], place["never"]["packs"], len(place["weeks"])) == (1, 0, 1)
    assert f"signed by the key {signer}" in report.read_text()
    with later(1):
        sides.accept(sides.receipt("--name", "the vault", key=""), code=4)
        assert (
            "which no trusted key signed, counts for nothing" in run("-C", sides.home, "status").out
        )


def test_a_receipt_is_written_where_it_does_no_harm(sides):
    path = sides.receipt()
    sides.there("receipt", "write", "-o", path, code=2)
    sides.there("receipt", "write", "-o", sides.far / "receipt.json", code=2)
    sides.there("receipt", "write", "-o", sides.folder / "no" / "receipt.json", code=2)
    sides.there("receipt", "write", "-o", sides.folder / "x.json", "--name", "x\x1b[2J", code=2)
    sides.there("receipt", "write", "org/none", "-o", sides.folder / "x.json", code=2)
    assert not (sides.folder / "x.json").exists()
    # A signature that cannot be written leaves no receipt that would look as if nobody signed it.
    (sides.folder / "y.json.minisig").mkdir()
    key = ("--sign", sides.folder / "far.key")
    sides.there("receipt", "write", "-o", sides.folder / "y.json", *key, code=2)
    assert not (sides.folder / "y.json").exists()


def test_a_receipt_is_shown_without_an_archive(sides, run):
    path = sides.receipt("--name", "the vault")
    shown = run("receipt", "show", path).out
    assert "the vault" in shown
    assert "not checked" in shown
    assert run("receipt", "show", sides.receipt(key="")).out.count("none") >= 1


def test_whether_it_ran_there_comes_back_too(sides, run, later):
    archive = Archive.open(sides.far)
    (snapshot,) = archive.snapshots()
    place = json.loads(sides.receipt().read_bytes())["place"]
    levels = dict.fromkeys(("structure", "tokenizer", "load", "forward", "generate"), "held")
    ran = SmokeTested(snapshot.id, levels, place=place)
    archive.record(new_event(ran, "org/one", snapshot.seal.revision))
    path = sides.receipt()
    (listed,) = json.loads(path.read_bytes())["snapshots"]
    assert listed["held"] == listed["tested"] != ""
    accepted = sides.accept(path).only("receipt-accept")
    assert (accepted["held"], accepted["failed"]) == (1, [])
    with later(1):
        broken = SmokeTested(snapshot.id, levels | {"generate": "failed"}, place=place)
        archive.record(new_event(broken, "org/one", snapshot.seal.revision))
        path = sides.receipt()
        accepted = sides.accept(path).only("receipt-accept")
        assert (accepted["held"], len(accepted["failed"])) == (0, 1)
        again = run("-C", sides.home, "receipt", "accept", path).out
        assert "DID NOT RUN THERE" in again
        assert sides.copies()["org/one"] == 2  # its bytes are whole


def test_an_import_proves_nothing_at_a_copy_of_the_far_archive(sides, far_disk):
    """Its journal came along; what was decoded was read at the other place."""
    (there,) = json.loads(sides.receipt().read_bytes())["snapshots"]
    replica = far_disk / "replica"
    sides.there("copy", "--new", "--min-free", "0", replica)
    sides.far = replica
    (copied,) = json.loads(sides.receipt().read_bytes())["snapshots"]
    assert there["files"]
    assert copied["stored"]
    assert "files" not in copied


def test_what_was_never_proven_there_does_not_count(sides, tmp_path):
    """An import of a folder writes and proves nothing by reading back; an audit does."""
    take_in(sides.far, tmp_path / "three", "org/three", 5)
    told = json.loads(sides.receipt().read_bytes())
    assert [each["trouble"] for each in told["troubled"]] == ["unproven"]
    sides.there("audit", "--level", "stored")
    told = json.loads(sides.receipt().read_bytes())
    (three,) = [each for each in told["snapshots"] if each["repository"] == "org/three"]
    assert (three["stored"] != "", "content" in three, "files" in three) == (True, False, False)
