"""What findings say to people: digests in short, commands whole, and that nothing is lost, if so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import archiver
from archiver.archive.advice import Advice
from archiver.cli.findings import shortened, words

HEX = "0123456789abcdef" * 4
WHOLE = re.compile(r"[0-9a-f]{64}")


def change(weights, at):
    """Change one byte of the first pack, counted from its beginning or end."""
    path = next(weights.root.glob("packs/*/*.pack"))
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_digests_are_short_but_not_in_what_is_typed():
    assert shortened(f"packs/01/{HEX}.pack is gone") == f"packs/01/{HEX[:16]}….pack is gone"
    command = f"'archiver copy -C a {HEX}'"
    assert (
        shortened(f"Upstream's {HEX}: run {command}.") == f"Upstream's {HEX[:16]}…: run {command}."
    )
    move = words(
        Advice("/a b").foreign_seal(f"snapshots/o/m/{HEX} (1).json", f"snapshots/o/m/{HEX}.json")
    )
    assert shortened(move) == move
    assert shortened(HEX * 2) == HEX * 2  # no digest of ours


def test_text_has_short_digests_and_json_whole_ones(run, weights):
    change(weights, 20_000)
    text = run("audit", "-q", "-C", weights.root)
    assert text.code == 20
    assert not WHOLE.search(text.out)
    assert re.search(r"packs/../[0-9a-f]{16}…\.pack", text.out)
    found = run("audit", "-q", "--json", "-C", weights.root)
    assert any(WHOLE.search(one["message"]) for one in found.damage)
    assert all(len(one["pack"]) == 64 for one in found.damage if "pack" in one)
    out = weights.root.parent / "out"
    restored = run("restore", "-q", "-C", weights.root, "org/one", out)
    other = run("restore", "-q", "-C", weights.root, "org/two", out.with_name("other"))
    assert {restored.code, other.code} == {0, 20}
    assert not WHOLE.search(restored.out + other.out)


def test_where_restore_works_the_audit_says_so(run, weights):
    """The beginning of a pack, its index and its last byte: no object lies there."""
    pristine = next(weights.root.glob("packs/*/*.pack")).read_bytes()
    for at in (10, -60, -2):
        change(weights, at)
        found = run("audit", "-q", "--json", "-C", weights.root)
        assert found.code == 20
        assert all("so restore works" in one["message"] for one in found.damage), found.out
        for name in ("one", "two"):
            out = weights.root.parent / f"out{at}{name}"
            assert run("restore", "-q", "-C", weights.root, f"org/{name}", out).code == 0
        path = next(weights.root.glob("packs/*/*.pack"))
        path.write_bytes(pristine)
    change(weights, 20_000)
    found = run("audit", "-q", "--json", "-C", weights.root)
    assert not any("so restore works" in one["message"] for one in found.damage)


def test_what_is_to_be_done_about_a_remark_is_told(run, weights):
    (weights.root / "notes.txt").write_text("mine")
    found = run("audit", "-C", weights.root)
    assert found.code == 0
    assert "Move it out of the archive's folder" in found.err


PROSE = {"message", "hint"}
JOINED = {"rstrip"}  # a sentence that ends within another one loses its full stop


def readings(tree, texts=("str(error)",)):
    """Yield the line of each place where a program looks into the words of an error or a finding."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        said = isinstance(node, ast.Attribute) and node.attr in PROSE
        # What an error of this package says is also its text.
        said = said or (isinstance(node, ast.Call) and ast.unparse(node) in texts)
        above = parents.get(node)
        if not said or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            continue
        method = isinstance(above, ast.Attribute) and above.attr not in JOINED
        matched = isinstance(above, ast.Call) and node in above.args
        matched = matched and ast.unparse(above.func).startswith(("re.", "fnmatch", "len"))
        if isinstance(above, ast.Compare | ast.Subscript | ast.Match) or method or matched:
            yield node.lineno


def test_no_logic_reads_what_an_error_or_a_finding_says():
    """Only the command line makes sentences; a smoke test reads those of torch and transformers."""
    root = Path(archiver.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        room = path.relative_to(root).parts[0]
        texts = () if room == "smoke" else ("str(error)",)
        if room != "cli":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [f"{path}:{line}" for line in readings(tree, texts)]
    assert not found


def test_the_look_for_readings_sees_them():
    for code in (
        "digest in error.message",
        "error.message.startswith('x')",
        "one.hint == other",
        "re.search('x', error.message)",
        "error.message[0]",
        "'gone' in str(error)",
    ):
        assert list(readings(ast.parse(code))) == [1], code
    for code in ("raise E(error.message)", "f'{error.message} So.'", "error.hint = 'x'"):
        assert not list(readings(ast.parse(code))), code
