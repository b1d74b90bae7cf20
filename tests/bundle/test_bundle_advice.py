"""What an operator reads who has nothing but the media: what to do next, and for which volume."""

from __future__ import annotations

from bundlekit import LARGE, SMALL, flip, piece, replace, volumes_of

CORE = "volume-0002"


def test_where_there_is_no_archive_yet(run, pristine, far, tmp_path):
    done = run("bundle", "import", "-q", "-C", far, pristine)
    assert done.code == 10
    assert "Begin it with --new" in done.err
    page = (pristine / CORE / "START-HERE.html").read_text()
    assert "archiver bundle import -C ~/weights --new ." in page
    lost = run("bundle", "verify", "-q", tmp_path / "nowhere")
    assert lost.code == 2
    assert f"{tmp_path / 'nowhere'} is not there." in lost.err


def test_what_parity_mends_is_advised_about(run, media):
    flip(piece(media / CORE))
    done = run("bundle", "verify", "-q", media)
    assert done.code == 20
    assert "gets past that" in done.out + done.err


def test_a_volume_that_came_in_is_not_asked_for_again(run, media, far):
    """Also one whose own list is damaged: what waits tells."""
    damaged = media / CORE / "volume.json"
    replace(damaged, damaged.read_bytes()[:1000])
    words = ("bundle", "import", "-q", "-C", far, "--new", "--min-free", "0")
    first, core, *_, last = volumes_of(media)
    assert run(*words, first).code in {0, 3}
    done = run(*words, core, last)
    assert done.code == 20
    assert "volume 2, volume.json: " in done.out
    assert f"Waiting: {LARGE}" in done.out
    (line,) = (line for line in done.out.splitlines() if line.startswith(f"Waiting: {LARGE}"))
    assert " needs volume 3 of bundle " in line


def test_an_incremental_bundle_says_that_it_is_one(run, carried, export, bring, far, tmp_path):
    assert export(tmp_path / "first", references=[SMALL]).code == 0
    assert bring(tmp_path / "first").code == 0
    inventory = tmp_path / "inventory.json"
    assert run("inventory", "-q", "-C", far, "-o", inventory).code == 0
    assert export(tmp_path / "to", "--not-in", inventory, references=[SMALL]).code == 0
    done = run("bundle", "verify", "-q", tmp_path / "to")
    assert done.code == 0
    assert "NOT all of it is here; this bundle leaves out what the inventory" in done.out
