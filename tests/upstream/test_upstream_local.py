"""A plain folder as an upstream: what is listed, what is left out, what is refused."""

from __future__ import annotations

import os
import socket

import pytest
from upstreamkit import REPO, fetch_listed

from archiver.errors import HostileNameError, UpstreamGoneError, UsageError
from archiver.upstream.local import LocalUpstream
from archiver.upstream.remote_file import RemoteFile


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "My Model (v1.5)"
    (made / "sub").mkdir(parents=True)
    (made / "config.json").write_bytes(b"{}")
    (made / "sub" / "w.bin").write_bytes(bytes(range(256)) * 1000)
    return made


def paths(listing):
    return [file.path for file in listing.files]


def test_a_plain_folder_is_listed_without_claims(folder):
    upstream = LocalUpstream(folder)
    assert upstream.repositories() == ("folder:My-Model-v1.5",)
    listing = upstream.list("folder:My-Model-v1.5", None)
    assert (listing.upstream, listing.endpoint, listing.revision) == ("directory", "", "")
    assert listing.files == (RemoteFile("config.json", 2), RemoteFile("sub/w.bin", 256_000))


def test_a_plain_folder_can_be_given_a_name(folder):
    upstream = LocalUpstream(folder, REPO)
    assert upstream.list(REPO, None).repository == REPO
    with pytest.raises(UpstreamGoneError, match="does not hold a/b"):
        upstream.list("a/b", None)
    with pytest.raises(UpstreamGoneError, match="no revision v2"):
        upstream.list(REPO, "v2")
    with pytest.raises(UsageError):
        LocalUpstream(folder, "../x")


@pytest.mark.parametrize("name", ["...", "日本", "a--b", "-x-", "x.git", "x" * 200])
def test_any_folder_gets_a_name(tmp_path, name):
    (tmp_path / name).mkdir()
    upstream = LocalUpstream(tmp_path / name)
    (only,) = upstream.repositories()
    with pytest.raises(UsageError, match="holds no files"):
        upstream.list(only, None)
    (tmp_path / name / "x").touch()
    assert [file.path for file in upstream.list(only, None).files] == ["x"]


def test_a_file_comes_whole_and_from_any_offset(folder, read):
    upstream = LocalUpstream(folder, REPO)
    listing = upstream.list(REPO, None)
    whole = (folder / "sub/w.bin").read_bytes()
    assert fetch_listed(upstream, listing, "sub/w.bin", read) == whole
    assert fetch_listed(upstream, listing, "sub/w.bin", read, 1001) == whole[1001:]
    assert fetch_listed(upstream, listing, "sub/w.bin", read, len(whole)) == b""


FOREIGN = {
    ".git/HEAD": (".git/", "tool"),
    ".cache/huggingface/x.json": (".cache/huggingface/", "tool"),
    "a/.cache/huggingface/download/x": ("a/.cache/huggingface/", "tool"),
    ".hfd/repo_metadata.json": (".hfd/", "tool"),
    **{name: (name, "tool") for name in (".msc", ".mv", "a/.mdl")},
    "._____temp/w.safetensors": ("._____temp/", "unfinished"),
    **{f"w.bin{end}": (f"w.bin{end}", "unfinished") for end in (".incomplete", ".crdownload")},
    "x.aria2": ("x.aria2", "unfinished"),
    ".0123456789abcdef.part": (".0123456789abcdef.part", "unfinished"),
    **{name: (name, "system") for name in (".DS_Store", "a/._w.bin", "Thumbs.db", "desktop.ini")},
    "lost+found/#1": ("lost+found/", "system"),
    "__MACOSX/._w.bin": ("__MACOSX/", "system"),
}


def test_what_programs_left_is_left_out_and_named(folder):
    for path in (*FOREIGN, ".cache/other", "a/.git/b", "part", "_._x", "DS_Store"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")
    listing = LocalUpstream(folder, REPO).list(REPO, None)
    kept = {".cache/other", "a/.git/b", "part", "_._x", "DS_Store"}
    assert set(paths(listing)) == {*kept, "config.json", "sub/w.bin"}
    assert {(one.path, one.kind) for one in listing.left_out} == set(FOREIGN.values())


def test_what_programs_left_may_be_no_file(folder):
    (folder / ".git").mkdir()
    os.mkfifo(folder / ".git/pipe")
    (folder / "._link").symlink_to("/etc/passwd")
    assert paths(LocalUpstream(folder, REPO).list(REPO, None)) == ["config.json", "sub/w.bin"]


def test_a_link_inside_the_folder_is_followed(folder, read):
    (folder / "link.json").symlink_to("config.json")
    upstream = LocalUpstream(folder, REPO)
    assert fetch_listed(upstream, upstream.list(REPO, None), "link.json", read) == b"{}"


def test_all_that_cannot_be_archived_is_named_at_once(folder, tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "escape").symlink_to("../secret")
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "broken").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "dir").symlink_to("sub")
    (folder / "dev").symlink_to("/dev/zero")
    os.mkfifo(folder / "sub" / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        monkeypatch.chdir(folder)  # a socket's address is short
        made.bind("sock\x1b[2J")
    with pytest.raises(UsageError, match=r"8 entries") as caught:
        LocalUpstream(folder, REPO).list(REPO, None)
    for name in ("escape", "passwd", "broken", "loop", "dir", "dev", "sub/pipe", "sock"):
        assert f"{name}" in caught.value.message
    assert "broken (it is a link that leads nowhere)" in caught.value.message
    assert "\x1b" not in caught.value.message


def test_names_that_could_not_be_written_elsewhere_are_refused(folder):
    (folder / os.fsdecode(b"\xfe.bin")).write_bytes(b"")
    (folder / os.fsdecode(b"\xff.bin")).write_bytes(b"")
    with pytest.raises(HostileNameError, match=r"\(2\)"):
        LocalUpstream(folder, REPO).list(REPO, None)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UpstreamGoneError, match="no folder"):
        LocalUpstream(tmp_path / "none")


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path):
    os.truncate(path, 100_000)


def rewrite(path):
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"XX")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("change", [grow, shrink, rewrite])
def test_a_file_that_changes_during_the_read_is_refused(folder, read, change):
    upstream = LocalUpstream(folder, REPO)
    listing = upstream.list(REPO, None)
    with upstream.open(listing, listing.files[1], 0) as stream:
        stream.readinto(memoryview(bytearray(50_000)))
        change(folder / "sub/w.bin")
        with pytest.raises(UpstreamGoneError, match=r"sub/w\.bin changed while it was read"):
            read(stream)


@pytest.mark.parametrize("change", [grow, shrink])
def test_a_file_that_changed_since_the_listing_is_refused(folder, read, change):
    upstream = LocalUpstream(folder, REPO)
    listing = upstream.list(REPO, None)
    change(folder / "sub/w.bin")
    with pytest.raises(UpstreamGoneError, match="changed"):
        fetch_listed(upstream, listing, "sub/w.bin", read)


def test_a_file_that_became_something_else_is_refused(folder, read, tmp_path):
    upstream = LocalUpstream(folder, REPO)
    listing = upstream.list(REPO, None)
    where = folder / "sub/w.bin"
    where.unlink()
    with pytest.raises(UpstreamGoneError, match=r"sub/w\.bin is not in"):
        fetch_listed(upstream, listing, "sub/w.bin", read)
    os.mkfifo(where)
    with pytest.raises(UpstreamGoneError, match="not a plain file"):
        fetch_listed(upstream, listing, "sub/w.bin", read)
    where.unlink()
    where.symlink_to("/etc/passwd")
    with pytest.raises(UpstreamGoneError, match="out of the folder"):
        fetch_listed(upstream, listing, "sub/w.bin", read)
