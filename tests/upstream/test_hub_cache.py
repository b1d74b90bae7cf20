"""A hub client's cache, written by the client itself."""

from __future__ import annotations

import hashlib

import pytest
from upstreamkit import REPO, fetch_listed

from archiver.errors import UpstreamGoneError, UsageError
from archiver.upstream.local import LocalUpstream
from archiver.upstream.remote_file import RemoteFile


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
    assert len(fetch_listed(upstream, listing, "m.safetensors", read)) == 960_000
    assert fetch_listed(upstream, listing, "sub/a.txt", read) == b"a"


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
    assert fetch_listed(upstream, listing, "config.json", read) == b"{}"
    with pytest.raises(UpstreamGoneError, match=r"m\.safetensors is not in") as caught:
        fetch_listed(upstream, listing, "m.safetensors", read)
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
