"""``archiver sign``: what is whole is signed once, what is damaged never."""

from __future__ import annotations

import json

from kit.faults import overwrite
from kit.journal import raw_event
from signingkit import digest_of

from archiver.archive.archive import Archive
from archiver.archive.check.sidecars import signature_findings
from archiver.archive.signing.keys import public_key
from archiver.archive.signing.signatures import unsigned


def findings(weights, *keys):
    texts = [public_key(str(key.with_suffix(".pub"))).text for key in keys]
    return list(signature_findings(Archive.open(weights.root), texts))


def lacking(weights, *keys):
    texts = [public_key(str(key.with_suffix(".pub"))).text for key in keys]
    archive = Archive.open(weights.root)
    bare = unsigned(archive.store, archive.snapshots(), texts)
    return [weights.root / name for _, name in bare]


def test_everything_is_signed_once(weights, sign, key):
    documents = {*weights.seals, *weights.manifests}
    assert set(lacking(weights, key)) == documents
    (told,) = sign().kinds("sign")
    assert (told["signed"], told["kept"], len(told["heads"])) == (4, 0, 1)
    assert lacking(weights, key) == findings(weights, key) == []
    event = json.loads(weights.newest("signed").read_bytes())
    assert set(event["detail"]["documents"]) == {digest_of(document) for document in documents}
    assert event["detail"]["key"] == told["key"]
    assert told["heads"] == [digest_of(weights.newest("signed"))]
    before = {path: path.read_bytes() for path in [*weights.signatures, *weights.events]}
    (again,) = sign().kinds("sign")
    assert (again["signed"], again["kept"], again["heads"]) == (0, 4, [])
    assert {path: path.read_bytes() for path in [*weights.signatures, *weights.events]} == before


def test_a_later_head_is_signed_too(weights, sign, key):
    sign()
    digest = Archive.open(weights.root).record(raw_event("audited", "2026-12-01T00:00:00Z", "test"))
    (told,) = sign().kinds("sign")
    assert (told["signed"], told["heads"]) == (0, [digest])


def test_one_repository(weights, sign, key):
    (told,) = sign("org/ONE").kinds("sign")
    assert told["signed"] == 2
    assert {row.parent.name for row in lacking(weights, key)} == {"two"}
    assert sign("org/three").code == 2
    assert sign("org/one@0123").code == 2


def test_two_keys_sign_side_by_side(weights, sign, key, run, tmp_path):
    sign()
    assert run("keys", "new", tmp_path / "second", "--no-password").code == 0
    second = tmp_path / "second.key"
    assert len(lacking(weights, second)) == 4
    assert run("sign", "-C", weights.root, "--key", second).code == 0
    assert lacking(weights, key) == lacking(weights, second) == []
    assert findings(weights, key, second) == []


def test_the_comment_tells_a_person(weights, sign):
    sign()
    comment = weights.signature_of(weights.seals[0]).read_text().splitlines()[2]
    seal = json.loads(weights.seals[0].read_bytes())
    for told in (f"{seal['repository']}@{seal['revision']}", seal["archive"], "seal", "signed 20"):
        assert told in comment


def test_damaged_documents_are_not_signed(weights, sign, key):
    spoilt = [weights.seals[0], weights.manifests[1]]
    for each in spoilt:
        overwrite(each, each.read_bytes()[:-1] + b"!")
    done = sign()
    assert done.code == 20
    assert done.finding_codes == {"seal-damaged", "manifest-damaged"}
    names = {path.name.split(".")[0] for path in weights.signatures}
    assert names.isdisjoint(map(digest_of, spoilt))
    # Who has no seal has no place in the archive, so that its manifest is not signed either.
    assert digest_of(weights.seals[1]) in names
    assert (done.kinds("sign")[0]["signed"]) == 1


def test_a_missing_manifest_is_told(weights, sign):
    weights.manifests[0].unlink()
    done = sign()
    assert (done.code, done.finding_codes) == (20, {"manifest-missing"})
    assert done.kinds("sign")[0]["signed"] == 3


def test_a_damaged_signature_is_replaced(weights, sign, key):
    sign()
    good = weights.signature_of(weights.seals[0])
    whole = good.read_bytes()
    for at, spoilt in enumerate(
        (whole[:-9] + b"AAAAAAA=\n", whole.replace(b"seal of", b"seal 0f"), b"")
    ):
        overwrite(good, spoilt)
        (found,) = findings(weights, key)
        assert found.code == "signature-damaged", at
        assert lacking(weights, key) == [weights.seals[0]]
        (told,) = sign().kinds("sign")
        assert told["signed"] == 1
        assert lacking(weights, key) == findings(weights, key) == []
        assert at or [path.read_bytes() for path in weights.below("quarantine")] == [spoilt]


def test_every_line_of_a_signature_counts(weights, sign, key):
    sign()
    path = weights.signature_of(weights.manifests[0])
    rows = path.read_bytes().split(b"\n")
    for at in (1, 2, 3):
        for changed in (rows[at][:-1], rows[at] + b"A", rows[at].swapcase(), b""):
            overwrite(path, b"\n".join([*rows[:at], changed, *rows[at + 1 :]]))
            assert [finding.code for finding in findings(weights, key)] == ["signature-damaged"]


def test_a_signature_of_other_bytes_does_not_fit(weights, sign, key):
    sign()
    one, two = map(weights.signature_of, weights.seals)
    overwrite(one, two.read_bytes())
    (found,) = findings(weights, key)
    assert found.code == "signature-damaged"
    assert found.path == one.relative_to(weights.root).as_posix()


def test_unknown_keys_are_not_judged(weights, sign, key, run, tmp_path):
    sign()
    overwrite(weights.signatures[0], weights.signatures[1].read_bytes())
    assert findings(weights) == []
    assert [finding.code for finding in findings(weights, key)] == ["signature-damaged"]
    overwrite(weights.signatures[0], b"no signature at all")
    assert [finding.code for finding in findings(weights)] == ["signature-damaged"]


def test_a_signature_under_another_keys_name(weights, sign, key):
    sign()
    path = weights.signatures[0]
    path.rename(path.with_name(f"{path.name.split('.')[0]}.{'0' * 16}.minisig"))
    (found,) = findings(weights)
    assert found.code == "signature-damaged"
    assert "not its own" in found.message


def test_a_signature_of_nothing_is_a_remark(weights, sign, key):
    sign()
    weights.seals[0].unlink()
    (found,) = findings(weights, key)
    assert (found.code, found.remark) == ("unneeded-signature", True)


def test_the_damage_of_a_document_is_not_told_twice(weights, sign, key):
    sign()
    overwrite(weights.manifests[0], b"{}")
    assert findings(weights, key) == []
    assert lacking(weights, key) == [weights.manifests[0]]


def test_what_is_no_key_is_refused(weights, run, tmp_path, key):
    for name in (key.with_suffix(".pub"), weights.seals[0], tmp_path / "nothing"):
        done = run("sign", "-C", weights.root, "--key", name)
        assert done.code == 2
    assert not weights.signatures
