from __future__ import annotations

import hashlib
import os
import socket

import pytest

from archiver.errors import HostileNameError, UpstreamGoneError, UsageError
from archiver.upstream.local import LocalUpstream
from archiver.upstream.remote_file import RemoteFile

REPO = "Org/Model"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "My Model (v1.5)"
    (made / "sub").mkdir(parents=True)
    (made / "config.json").write_bytes(b"{}")
    (made / "sub" / "w.bin").write_bytes(bytes(range(256)) * 1000)
    return made


def paths(listing):
    return [file.path for file in listing.files]


def fetch(upstream, listing, path, read, offset=0):
    file = next(file for file in listing.files if file.path == path)
    with upstream.open(listing, file, offset) as stream:
        return read(stream)


# --- plain folders


def test_a_plain_folder_is_listed_without_claims(folder):
    upstream = LocalUpstream(folder)
    assert upstream.repositories() == ("local/My-Model-v1.5",)
    listing = upstream.list("local/My-Model-v1.5", None)
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
    assert fetch(upstream, listing, "sub/w.bin", read) == whole
    assert fetch(upstream, listing, "sub/w.bin", read, 1001) == whole[1001:]
    assert fetch(upstream, listing, "sub/w.bin", read, len(whole)) == b""


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
    assert fetch(upstream, upstream.list(REPO, None), "link.json", read) == b"{}"


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
    (folder / "back\\slash").write_bytes(b"")
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
        fetch(upstream, listing, "sub/w.bin", read)


def test_a_file_that_became_something_else_is_refused(folder, read, tmp_path):
    upstream = LocalUpstream(folder, REPO)
    listing = upstream.list(REPO, None)
    where = folder / "sub/w.bin"
    where.unlink()
    with pytest.raises(UpstreamGoneError, match=r"sub/w\.bin is not in"):
        fetch(upstream, listing, "sub/w.bin", read)
    os.mkfifo(where)
    with pytest.raises(UpstreamGoneError, match="not a plain file"):
        fetch(upstream, listing, "sub/w.bin", read)
    where.unlink()
    where.symlink_to("/etc/passwd")
    with pytest.raises(UpstreamGoneError, match="out of the folder"):
        fetch(upstream, listing, "sub/w.bin", read)


# --- a hub client's cache, written by the client itself


@pytest.fixture
def cached(hub, tmp_path):
    from huggingface_hub import snapshot_download

    def download(repository=REPO, **options):
        options = {
            "endpoint": hub.endpoint,
            "cache_dir": tmp_path / "cache",
            "token": False,
        } | options
        snapshot_download(repository, **options)
        return tmp_path / "cache" / ("models--" + repository.replace("/", "--"))

    return download


@pytest.fixture
def model(hub, content):
    files = {"m.safetensors": content, "config.json": b"{}", "sub/a.txt": b"a", "README.md": b"#"}
    return hub.create(REPO, files)


@pytest.mark.parametrize("form", ["entry", "snapshot", "root"])
def test_a_cache_is_listed_as_the_hub_lists_it(model, cached, connect, read, form):
    entry = cached()
    place = {"entry": entry, "snapshot": entry / "snapshots" / model, "root": entry.parent}[form]
    upstream = LocalUpstream(place)
    assert upstream.repositories() == (REPO,)
    listing, truth = upstream.list(REPO, None), connect().list(REPO)
    assert (listing.repository, listing.revision) == (REPO, model)
    assert listing.files == truth.files
    assert len(fetch(upstream, listing, "m.safetensors", read)) == 960_000
    assert fetch(upstream, listing, "sub/a.txt", read) == b"a"


def test_without_the_kept_tree_the_blobs_names_are_the_digests(model, cached, content):
    entry = cached()
    (entry / "trees" / f"{model}.json").unlink()
    files = {file.path: file for file in LocalUpstream(entry).list(REPO, None).files}
    sha256 = hashlib.sha256(content).hexdigest()
    assert files["m.safetensors"] == RemoteFile("m.safetensors", len(content), sha256, lfs=True)
    assert len(files["config.json"].oid) == 40
    assert not files["config.json"].lfs


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 5}', '{"files": {"a": {}}}', "[" * 99_999])
def test_a_kept_tree_that_makes_no_sense_is_ignored(model, cached, text):
    entry = cached()
    (entry / "trees" / f"{model}.json").write_text(text)
    assert len(LocalUpstream(entry).list(REPO, None).files) == 4


def test_a_partial_cache_cannot_pass_for_the_whole(model, cached, read):
    upstream = LocalUpstream(cached(allow_patterns=["*.json"]))
    listing = upstream.list(REPO, None)
    assert len(listing.files) == 4
    assert fetch(upstream, listing, "config.json", read) == b"{}"
    with pytest.raises(UpstreamGoneError, match=r"m\.safetensors is not in") as caught:
        fetch(upstream, listing, "m.safetensors", read)
    assert "download the rest" in caught.value.hint


def test_revisions_of_a_cache(hub, model, cached):
    entry = cached()
    newer = hub.commit(REPO, {"new.txt": b"new"})
    hub.tag(REPO, "v2")
    cached(revision="v2")
    upstream = LocalUpstream(entry)
    assert upstream.list(REPO, None).revision == model
    assert upstream.list(REPO, "v2").revision == newer
    assert upstream.list(REPO, newer).name == newer
    assert LocalUpstream(entry / "snapshots" / newer).list(REPO, None).revision == newer
    for name in ("v3", "0" * 40, "../../../etc/passwd", "..", "\x00"):
        with pytest.raises(UpstreamGoneError, match="holds no revision"):
            upstream.list(REPO, name)
    with pytest.raises(UpstreamGoneError, match="holds no revision"):
        LocalUpstream(entry / "snapshots" / newer).list(REPO, model)


def test_a_whole_cache_holds_several_repositories(hub, model, cached, tmp_path):
    hub.create("Other/Thing", {"a": b"x"})
    cached()
    cached("Other/Thing")
    root = tmp_path / "cache"
    (root / "models--..--evil" / "snapshots").mkdir(parents=True)
    (root / "datasets--a--b").mkdir()
    assert LocalUpstream(root).repositories() == (REPO, "Other/Thing")
    assert LocalUpstream(root, "Other/Thing").repositories() == ("Other/Thing",)
    with pytest.raises(UpstreamGoneError, match="does not hold a/b"):
        LocalUpstream(root).list("a/b", None)


def test_a_link_that_leads_out_of_a_cache_is_refused(model, cached, tmp_path):
    entry = cached()
    (tmp_path / "secret").write_bytes(b"x")
    (entry / "snapshots" / model / "x").symlink_to("../../../../secret")
    (entry / "snapshots" / model / "y").symlink_to("../../refs/main")
    left_out = LocalUpstream(entry).list(REPO, None).left_out
    assert [(one.path, one.kind) for one in left_out] == [("x", "unlisted"), ("y", "unlisted")]
    (entry / "trees" / f"{model}.json").unlink()
    with pytest.raises(UsageError, match=r"2 entries .*: x .*leads out.*; y "):
        LocalUpstream(entry).list(REPO, None)
