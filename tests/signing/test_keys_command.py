"""``archiver keys``."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from kit.cli import invoke

from archiver.archive.signing.keys import public_key, read_secret_key


def test_new_writes_a_pair_that_only_its_owner_reads(run, tmp_path):
    done = run("keys", "new", tmp_path / "k", "--no-password", "--comment", "weights, öffentlich")
    (told,) = done.kinds("key")
    secret, public = tmp_path / "k.key", tmp_path / "k.pub"
    assert (told["secret_file"], told["public_file"]) == (str(secret), str(public))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    for path in (secret, public):
        assert path.read_text().startswith("untrusted comment: weights, öffentlich\n")
    key = public_key(str(public))
    assert (key.id, key.text) == (told["id"], told["public"])
    assert read_secret_key(secret).unlock().public == key


def test_new_overwrites_nothing(run, key, tmp_path):
    before = key.read_bytes()
    done = run("keys", "new", tmp_path / "mine", "--no-password")
    assert done.code == 2
    assert "is there already" in done.err
    assert key.read_bytes() == before
    (tmp_path / "half.key").write_text("")
    assert run("keys", "new", tmp_path / "half", "--no-password").code == 2
    assert not (tmp_path / "half.pub").exists()


def test_a_comment_is_one_line(run, tmp_path):
    done = run("keys", "new", tmp_path / "k", "--no-password", "--comment", "a\nRWxxxx")
    assert done.code == 2
    assert not list(tmp_path.iterdir())


def test_nobody_is_asked_without_a_terminal(run, tmp_path, monkeypatch):
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        done = run("keys", "new", tmp_path / "k")
    assert done.code == 2
    assert "ARCHIVER_KEY_PASSWORD" in done.err
    assert not list(tmp_path.iterdir())


def test_show_tells_what_a_file_is(run, weights, sign, key, monkeypatch, tmp_path):
    (public,) = run("keys", "show", key.with_suffix(".pub")).kinds("key")
    (secret,) = run("keys", "show", key).kinds("key")
    assert public["what"] == "public key"
    assert secret["what"] == "secret key"
    assert (public["id"], public["public"]) == (secret["id"], secret["public"])
    sign()
    (signature,) = run("keys", "show", weights.signature_of(weights.seals[0])).kinds("key")
    assert signature["id"] == public["id"]
    assert signature["comment"].startswith("seal of Org/")
    assert run("keys", "show", weights.seals[0]).code == 2
    assert run("keys", "show", tmp_path / "nothing").code == 2


def test_a_wrong_password_opens_nothing(run, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHIVER_KEY_PASSWORD", "right")
    assert run("keys", "new", tmp_path / "k").code == 0
    (told,) = run("keys", "show", tmp_path / "k.key").kinds("key")
    assert told["public"] == public_key(str(tmp_path / "k.pub")).text
    monkeypatch.setenv("ARCHIVER_KEY_PASSWORD", "wrong")
    for args in (
        ["keys", "show", tmp_path / "k.key"],
        ["sign", "-C", weights.root, "--key", tmp_path / "k.key"],
    ):
        done = run(*args)
        assert done.code == 2
        assert "password" in done.err
    assert not weights.signatures


def test_files_that_are_there_are_told_before_a_password_is_asked_for(run, tmp_path):
    assert run("keys", "new", tmp_path / "key", "--no-password").code == 0
    again = run("keys", "new", tmp_path / "key")
    assert (again.code, "is there already" in again.err, "password" in again.err) == (
        2,
        True,
        False,
    )


def test_the_next_command_names_no_archive_where_none_is(weights, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert invoke("keys", "new", "a", "--no-password") == 0
    assert "'archiver sign -C DIR --key a.key'" in capfd.readouterr().out
    assert invoke("keys", "new", "b", "--no-password", "-C", weights.root) == 0
    assert f"'archiver sign -C {weights.root} --key b.key'" in capfd.readouterr().out


def test_verify_without_an_archive_asks_for_a_key(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.json").write_text("{}")
    done = run("verify", ".", "--manifest", "m.json", "--require-signature")
    assert (done.code, "--key" in done.err, "archiver init" in done.err) == (10, True, False)


def test_a_password_that_the_system_cannot_encode(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHIVER_KEY_PASSWORD", "right")
    assert run("keys", "new", tmp_path / "k").code == 0
    monkeypatch.setenv("ARCHIVER_KEY_PASSWORD", "wörd")
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii"))
    done = run("keys", "show", tmp_path / "k.key")
    assert (done.code, "encoding does not know" in done.err) == (2, True)
