"""``manifest export --model-signing``: another tool verifies what was restored."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from kit.archive import as_older
from kit.cli import invoke
from kit.faults import overwrite
from modelsigningkit import EXAMPLE, accepts, payload_of, statement_of, write_example

from archiver.archive.archive import Archive
from archiver.archive.publish import publish
from archiver.archive.records import FileEntry, Manifest, Selection, Source

PUBLIC = (EXAMPLE / "key.pub").read_bytes()
MADE_BY = ("archiver.sig", "model_signing.sig")
REPOSITORY = "Org/example"


def pem(key, path, password=None, layout=PrivateFormat.PKCS8):
    """A secret key's file, and the public key's text."""
    protection = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, layout, protection))
    return path, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="session")
def held(tmp_path_factory):
    """An archive of the example, and what is restored from it."""
    root = tmp_path_factory.mktemp("model_signing")
    folder = write_example(root / "folder")
    archive, restored = str(root / "weights"), str(root / "restored")
    assert invoke("init", "-q", "-C", archive) == 0
    args = ["import", "-q", "-C", archive, str(folder), "--as", REPOSITORY, "--min-free", "0B"]
    assert invoke(*args) == 0
    assert invoke("restore", "-q", "-C", archive, REPOSITORY, restored) == 0
    return root


@pytest.fixture
def own(tmp_path):
    return pem(ec.generate_private_key(ec.SECP256R1()), tmp_path / "ec.pem")


@pytest.fixture
def export(run, held, tmp_path):
    def call(key, *more, archive=held / "weights"):
        where = ("-C", archive, REPOSITORY, "-o", tmp_path / "out.sig")
        return run("manifest", "export", *where, "--model-signing", key, *more)

    return call


@pytest.mark.parametrize("name", MADE_BY)
def test_the_examples_are_accepted(held, name):
    assert accepts((EXAMPLE / name).read_bytes(), held / "restored", PUBLIC)


def test_what_is_signed_is_what_the_tool_verified(export, own, tmp_path):
    (told,) = export(own[0]).kinds("model-signing")
    made, known = (tmp_path / "out.sig").read_bytes(), (EXAMPLE / "archiver.sig").read_bytes()
    assert payload_of(made) == payload_of(known)
    made, known = json.loads(made), json.loads(known)
    for each in (made, known):
        del each["verificationMaterial"]["publicKey"]["hint"]
        del each["dsseEnvelope"]["signatures"][0]["sig"]
    assert made == known
    assert told["files"] == 5
    assert told["left_out"] == [".gitattributes", ".github/note"]
    assert told["file"] == str(tmp_path / "out.sig")


def test_the_tool_signs_the_same(held):
    """Only the title differs: the tool takes the folder's name."""
    ours, theirs = (statement_of((EXAMPLE / name).read_bytes()) for name in MADE_BY)
    (snapshot,) = Archive.open(held / "weights").snapshots()
    assert ours["subject"][0].pop("name") == f"{REPOSITORY}@{snapshot.seal.revision}"
    theirs["subject"][0].pop("name")
    for each in (ours, theirs):
        each["predicate"]["serialization"]["ignore_paths"].sort()
    assert ours == theirs


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_every_curve(export, held, tmp_path, curve, own):
    file, public = pem(ec.generate_private_key(curve), tmp_path / "curve.pem")
    assert export(file).code == 0
    made = (tmp_path / "out.sig").read_bytes()
    assert accepts(made, held / "restored", public)
    assert not accepts(made, held / "restored", own[1])


@pytest.mark.parametrize("spoil", ["changed", "missing", "added", "renamed"])
def test_another_folder_is_refused(export, own, tmp_path, spoil):
    assert export(own[0]).code == 0
    made, folder = (tmp_path / "out.sig").read_bytes(), write_example(tmp_path / "folder")
    assert accepts(made, folder, own[1])
    if spoil == "changed":
        (folder / "sub/a").write_text("0ne")
    elif spoil == "missing":
        (folder / "nothing").unlink()
    elif spoil == "added":
        (folder / "sub/.gitattributes").write_text("")
    else:
        (folder / "sub-b").rename(folder / "sub-c")
    assert not accepts(made, folder, own[1])


def test_a_changed_statement_is_refused(export, own, held, tmp_path):
    assert export(own[0]).code == 0
    bundle = json.loads((tmp_path / "out.sig").read_bytes())
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"]).replace(b"Org/example", b"Org/exampla")
    envelope["payload"] = base64.b64encode(payload).decode()
    assert not accepts(json.dumps(bundle).encode(), held / "restored", own[1])


@pytest.mark.parametrize("layout", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_with_a_password(export, held, tmp_path, monkeypatch, layout):
    key = ec.generate_private_key(ec.SECP256R1())
    file, public = pem(key, tmp_path / "locked.pem", "hällo", layout)
    assert "ARCHIVER_KEY_PASSWORD" in export(file).err
    monkeypatch.setenv("ARCHIVER_KEY_PASSWORD", "hallo")
    refused = export(file)
    assert refused.code == 2
    assert "password is another one" in refused.err
    assert not (tmp_path / "out.sig").exists()
    monkeypatch.setenv("ARCHIVER_KEY_PASSWORD", "hällo")
    assert export(file).code == 0
    assert accepts((tmp_path / "out.sig").read_bytes(), held / "restored", public)


def test_what_is_no_ec_key_is_refused(export, key, tmp_path):
    others = {
        "ed": ed25519.Ed25519PrivateKey.generate(),
        "rsa": rsa.generate_private_key(65537, 1024),
        "curve": ec.generate_private_key(ec.SECP256K1()),
    }
    files = [pem(one, tmp_path / name)[0] for name, one in others.items()]
    for file in files:
        done = export(file)
        assert done.code == 2
        assert "P-256" in done.err
    for file in (EXAMPLE / "key.pub", key, tmp_path, tmp_path / "absent"):
        done = export(file)
        assert done.code == 2
        assert "secret key" in done.err
    assert not (tmp_path / "out.sig").exists()


def test_nothing_is_overwritten(export, own, tmp_path):
    (tmp_path / "out.sig").write_text("mine")
    done = export(own[0])
    assert done.code == 2
    assert "is there already" in done.err
    assert (tmp_path / "out.sig").read_text() == "mine"


def test_to_stdout(run, held, own):
    args = ("manifest", "export", "-C", held / "weights", REPOSITORY, "--model-signing", own[0])
    assert accepts(run(*args).out.encode(), held / "restored", own[1])
    assert run(*args, "--pretty").code == 2


def test_a_damaged_manifest_is_not_signed(weights, run, own, tmp_path):
    (manifest,) = weights.below("manifests/org/one")
    overwrite(manifest, manifest.read_bytes()[:-1] + b"!")
    as_older(weights.root, "org/one")  # else its packs have the manifest too
    out = tmp_path / "out.sig"
    args = ("-C", weights.root, "org/one", "-o", out, "--model-signing", own[0])
    assert run("manifest", "export", *args).code == 20
    assert not out.exists()


@pytest.mark.parametrize(
    ("path", "digest"), [("../up", "0" * 64), ("file", "0" * 63), ("up", "g" * 64)]
)
def test_a_hostile_manifest_is_not_signed(export, own, tmp_path, monkeypatch, path, digest):
    archive = Archive.create(tmp_path / "hostile")
    source = Source("directory", "", REPOSITORY, "0" * 40)
    files = (FileEntry(path, 0, digest, "0" * 64),)
    with monkeypatch.context() as lax:  # a writer that does not look
        lax.setattr("archiver.archive.manifests.require_room", lambda _plain, _manifest: None)
        publish(archive, Manifest(source, files), {}, Selection())
    assert export(own[0], archive=tmp_path / "hostile").code == 20
    assert not (tmp_path / "out.sig").exists()


def test_a_person_is_told_what_is_left_out(held, own, tmp_path, capfd):
    args = ["manifest", "export", "-C", str(held / "weights"), REPOSITORY]
    assert invoke(*args, "--model-signing", own[0], "-o", tmp_path / "out.sig") == 0
    out = capfd.readouterr().out
    assert "it signs 5 files of Org/example@" in out
    assert "Left out, as the tool does by itself: .gitattributes, .github/note." in out
