"""A seal that a newer version wrote is named and left out, and nothing is deleted; the rest is served."""

from __future__ import annotations

import json

import pytest
from blake3 import blake3
from kit.archive import seals
from kit.faults import overwrite


@pytest.fixture(params=[{"format": 2}, {"features": {"read": ["bases"], "write": []}}])
def newer(request, weights):
    """The archive, and the name of the seal of org/one that needs a newer version."""
    (path,) = seals(weights.root, "org/one")
    seal = json.loads(path.read_bytes()) | request.param | {"packs": "in another shape"}
    data = json.dumps(seal, sort_keys=True, separators=(",", ":")).encode()
    path.unlink()
    new = path.with_name(f"{seal['revision']}.{blake3(data).hexdigest()}.json")
    overwrite(new, data)
    return str(new.relative_to(weights.root))


def test_the_others_are_served(run, weights, newer, tmp_path):
    root = weights.root
    listed = run("list", "-C", root)
    assert listed.code == 4
    assert newer in listed.err
    assert "org/two" in listed.out
    assert run("restore", "-q", "-C", root, "org/two", tmp_path / "two").code == 0
    assert run("restore", "-q", "-C", root, "org/one", tmp_path / "one").code == 10
    assert not (tmp_path / "one").exists()


def test_an_audit_and_a_status_name_it(run, weights, newer):
    audit = run("audit", "-q", "--json", "-C", weights.root)
    (finding,) = [each for each in audit.damage if each["code"] == "not-understood"]
    assert finding["path"] == newer
    assert "seal-damaged" not in audit.codes
    status = run("status", "--json", "-C", weights.root)
    assert newer in status.out
    assert "not-understood" in status.out


def test_nothing_is_deleted_or_made_anew(run, weights, newer):
    root = weights.root
    for words in (("prune",), ("forget", "org/two"), ("repair", "--no-upstream")):
        result = run(*words, "-q", "-C", root)
        assert result.code == 10, words
    assert (root / newer).exists()


def test_a_copy_takes_the_rest(run, weights, newer, tmp_path):
    target = tmp_path / "copy"
    copied = run("copy", "-q", "-C", weights.root, "--new", target)
    assert copied.code == 3
    assert seals(target, "org/two")
    assert not (target / newer).exists()


def test_what_is_written_announces_nothing_of_the_archives(weights):
    for path in seals(weights.root):
        assert json.loads(path.read_bytes())["features"] == {"read": [], "write": []}
