"""The stock program and archiver take each other's keys and signatures."""

from __future__ import annotations

import pytest
import zstandard
from signingkit import minisign

from archiver.archive.signing.keys import public_key, read_secret_key, read_signature
from archiver.errors import DamageError


@pytest.fixture
def theirs(tmp_path):
    """A pair of keys that minisign made, without a password."""
    made = minisign("-G", "-W", "-p", tmp_path / "theirs.pub", "-s", tmp_path / "theirs.key")
    assert made.returncode == 0, made.stderr
    return tmp_path / "theirs.key"


def test_it_verifies_what_we_sign(weights, sign, key, tmp_path):
    assert sign().code == 0
    signed = [*weights.seals, weights.newest("signed")]
    for packed in weights.manifests:
        plain = tmp_path / f"x.{packed.name.split('.')[1]}"
        plain.write_bytes(zstandard.ZstdDecompressor().decompress(packed.read_bytes()))
        signed.append(plain)
    assert len(signed) == len(weights.signatures) == 5
    for document in signed:
        args = ["-V", "-p", key.with_suffix(".pub"), "-m", document]
        result = minisign(*args, "-x", weights.signature_of(document))
        assert result.returncode == 0, result.stderr
        document.chmod(0o644)
        document.write_bytes(document.read_bytes() + b" ")
        assert minisign(*args, "-x", weights.signature_of(document)).returncode == 1


@pytest.mark.parametrize("legacy", [False, True])
def test_we_verify_what_it_signs(theirs, tmp_path, legacy):
    document = tmp_path / "document"
    document.write_bytes(b"bytes" * 1000)
    done = minisign("-S", *(["-l"] * legacy), "-s", theirs, "-m", document, "-t", "tëxt of theirs")
    assert done.returncode == 0, done.stderr
    result = read_signature(tmp_path / "document.minisig")
    assert result.prehashed != legacy
    assert result.remark == "tëxt of theirs"
    key = public_key(str(theirs.with_suffix(".pub")))
    result.verify(key, document.read_bytes())
    with pytest.raises(DamageError, match="not the signature of these bytes"):
        result.verify(key, document.read_bytes() + b" ")


def test_we_sign_with_its_key(weights, run, theirs):
    assert run("sign", "-C", weights.root, "--key", theirs).code == 0
    seal = weights.seals[0]
    args = ["-V", "-p", theirs.with_suffix(".pub"), "-m", seal]
    assert minisign(*args, "-x", weights.signature_of(seal)).returncode == 0


def test_it_signs_with_our_key(key, tmp_path):
    document = tmp_path / "document"
    document.write_bytes(b"bytes")
    assert minisign("-S", "-s", key, "-m", document).returncode == 0
    result = read_signature(tmp_path / "document.minisig")
    result.verify(public_key(str(key.with_suffix(".pub"))), b"bytes")


def test_it_opens_our_password(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHIVER_KEY_PASSWORD", "pass wörd")
    assert run("keys", "new", tmp_path / "k").code == 0
    document = tmp_path / "document"
    document.write_bytes(b"bytes")
    done = minisign("-S", "-s", tmp_path / "k.key", "-m", document, typed="pass wörd\n")
    assert done.returncode == 0, done.stderr
    read_signature(tmp_path / "document.minisig").verify(
        public_key(str(tmp_path / "k.pub")), b"bytes"
    )
    assert minisign("-S", "-s", tmp_path / "k.key", "-m", document, typed="no\n").returncode


def test_we_open_its_password(tmp_path):
    """With its own cost, which takes 1 GiB of memory."""
    made = minisign(
        "-G", "-p", tmp_path / "t.pub", "-s", tmp_path / "t.key", typed="pass wörd\npass wörd\n"
    )
    assert made.returncode == 0, made.stderr
    locked = read_secret_key(tmp_path / "t.key")
    assert locked.cost == (1 << 20, 8, 1)
    assert locked.unlock("pass wörd").public == public_key(str(tmp_path / "t.pub"))
