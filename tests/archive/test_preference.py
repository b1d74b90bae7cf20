"""Which of several seals is meant: the archive and its own decoder give the same answer (section 7)."""

import importlib.util
import itertools
import random
import sys
from pathlib import Path

import msgspec
import pytest
from archivekit import OTHER, REVISION, entry_of, source, store_all
from kit.archive import put_manifest

from archiver.archive import layout
from archiver.archive.records import Manifest, Seal, Selection, Totals
from archiver.archive.vouching import Vouch, Voucher, runs_of, vouching_of
from archiver.errors import UsageError

DECODER = Path(__file__).parents[2] / "archiver" / "carried" / "decode.py"
PARTS = [b"first part", b"second part"]
SELECTIONS = (Selection(), Selection(("*.json",)), Selection((), (), "unknown"))
SHA1 = "1" * 40


@pytest.fixture
def decoder(monkeypatch):
    spec = importlib.util.spec_from_file_location("carried_decoder", DECODER)
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, found)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def seal_up(archive):
    """Publishes a seal of a manifest of two files, or of one that an older writer made."""
    objects = store_all(archive, PARTS)
    packs = tuple((one.pack, one.size) for one in objects.published)
    entries = (entry_of("a.json", PARTS), entry_of("b.json", PARTS))

    def make(vouched, selection, sealed, *, upstream="directory", revision=REVISION, oids=("", "")):
        files = tuple(
            msgspec.structs.replace(one, oid=oid) for one, oid in zip(entries, oids, strict=True)
        )
        told = msgspec.structs.replace(source(revision=revision), upstream=upstream)
        ref = put_manifest(archive, Manifest(told, files))
        return archive.publish_seal(
            Seal(
                archive=archive.info.archive,
                repository="Org/Model",
                revision=revision,
                manifest=ref,
                packs=packs,
                totals=Totals(2, 2 * entries[0].size, 2, 0, 0),
                sealed=sealed,
                tool="a test",
                selection=selection,
                vouched=vouched,
            )
        )

    return make


def of(*vouchers):
    return runs_of(Vouch(one, "sha256" if one else "") for one in vouchers)


def test_the_decoder_and_the_archive_prefer_the_same(archive, seal_up, decoder):
    """Every voucher, selection and time; seals of older writers; runs that do not fit."""
    told = [of(one, Voucher.UPSTREAM) for one in Voucher]
    told += [((3, "upstream", "sha256"),), ((1, "oracle", "sha256"), (1, "upstream", "sha256")), ()]
    told += [((1, "upstream", "sha256"), (1, "upstream", "md5"))]
    times = ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z")
    made = [seal_up(*one) for one in itertools.product(told, SELECTIONS, times)]
    for upstream, oids in (("huggingface", (SHA1, SHA1)), ("directory", (SHA1, SHA1))):
        made.append(seal_up(msgspec.UNSET, Selection(), times[0], upstream=upstream, oids=oids))
    made.append(seal_up(msgspec.UNSET, Selection(), times[1], oids=(SHA1, "")))
    hub = seal_up(
        msgspec.UNSET,
        Selection(),
        times[1],
        upstream="huggingface",
        oids=(SHA1, ""),
        revision=OTHER,
    )
    made.append(hub)
    assert archive.vouching(hub).least is Voucher.NOBODY  # no digest, so nobody: also of a hub's
    made.append(seal_up(of(Voucher.PIN, Voucher.PIN), Selection(), times[1], revision=OTHER))
    lost = seal_up(msgspec.UNSET, SELECTIONS[1], times[1], oids=("", SHA1))
    ref = lost.seal.manifest.blake3
    (archive.store.folder.path / layout.manifest_name("Org/Model", REVISION, ref)).unlink()
    root, log = archive.store.folder.path, decoder.Log()
    snapshots = decoder.Snapshots(decoder.Packs(root, [], decoder.Zstandard(), False, log))
    read = {one.id: one for one in snapshots.seals}
    draw = random.Random(7)
    every = [*made, lost]
    chosen = [draw.sample(every, draw.randint(2, 6)) for _ in range(300)]
    for some in [every, *chosen]:
        ours = archive.preferred(some)
        assert max((read[one.id] for one in some), key=snapshots.order).id == ours.id
    best = archive.preferred(made)
    assert vouching_of(best.seal) is None or vouching_of(best.seal).least is Voucher.UPSTREAM
    assert archive.vouching(lost) is None


def test_the_order_is_whole_then_voucher_then_commit_then_time(archive, seal_up):
    nobody = seal_up(of(Voucher.NOBODY, Voucher.UPSTREAM), Selection(), "2026-01-01T00:00:09Z")
    cache = seal_up(of(Voucher.CACHE, Voucher.UPSTREAM), Selection(), "2026-01-01T00:00:08Z")
    part = seal_up(of(Voucher.UPSTREAM, Voucher.UPSTREAM), SELECTIONS[1], "2026-01-01T00:00:07Z")
    assert archive.find("Org/Model") == cache
    assert archive.preferred([part, nobody]) == nobody
    assert archive.preferred([nobody, cache]) == cache
    whole = seal_up(of(Voucher.UPSTREAM, Voucher.UPSTREAM), Selection(), "2026-01-01T00:00:01Z")
    assert archive.find("Org/Model") == whole
    assert archive.find("Org/Model", nobody.id[:8]) == nobody
    assert archive.find(cache.id[:9]) == cache
    with pytest.raises(UsageError):
        archive.find("Org/Model", nobody.id[:7])


def test_a_seal_of_a_thousand_files_grows_by_some_hundred_bytes():
    vouches = [
        Vouch(Voucher.UPSTREAM, "sha256" if 10 < n < 990 else "git-sha1") for n in range(1000)
    ]
    assert len(msgspec.json.encode(runs_of(vouches))) < 120
