"""Repositories of GGUF files: taken in, shown, compared and restored down to tensors."""

from __future__ import annotations

import json

import pytest
from gguf import GGUFReader
from kit.archive import seals
from kit.faults import flip_inside
from kit.gguf_files import gguf_file, tensor_bytes
from kit.memory import archiver
from kit.repository import REPO, bf16, noise, safetensors
from kit.worklog import resumable_bytes, wait_until

from archiver.loopback.faults import Fault

MIB = 1 << 20
SHAPES = {
    "token_embd.weight": ("Q6_K", (64, 512)),
    "blk.0.attn_q.weight": ("Q4_K", (512, 512)),
    "blk.0.attn_norm.weight": ("F32", (513,)),
    "blk.0.ffn_up.weight": ("BF16", (512, 3)),
}


def tensors(seed: int = 0) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (kind, shape, tensor_bytes(kind, shape, seed + number))
        for number, (name, (kind, shape)) in enumerate(SHAPES.items())
    }


def files(seed: int = 0) -> dict[str, bytes]:
    """Two files that share their tensors but for one, and have them at other places."""
    shared = tensors(seed)
    other = dict(reversed(shared.items())) | {
        "output.weight": ("F16", (8, 9), noise(seed + 9, 144))
    }
    metadata = {"general.name": "A made-up model", "tokenizer.ggml.tokens": ["<s>", "</s>", "a"]}
    return {
        "model-Q4_K.gguf": gguf_file(shared, metadata),
        "other/model.gguf": gguf_file(other, {"general.name": "Another"}),
        "README.md": b"Two of them.\n",
    }


def listed(cli, archive, *more):
    return cli("show", "-C", archive, REPO, "--json", *more)


def entries(cli, archive) -> dict[str, dict]:
    """The files of the manifest, by path."""
    out = cli("manifest", "export", "-C", archive, REPO).out
    return {entry["path"]: entry for entry in json.loads(out)["files"]}


def test_tensors_are_listed_as_the_gguf_package_has_them(hub, mirror, cli, archive, restores):
    made = files()
    hub.create(REPO, made)
    result = mirror()
    assert result.code == 0
    assert "plain bytes" not in result.out + result.err
    shown = listed(cli, archive, "--tensors").kinds("tensor")
    assert {
        (row["name"], row["dtype"], tuple(row["shape"]), row["bytes"])
        for row in shown
        if row["path"] == "model-Q4_K.gguf"
    } == {(name, kind, shape, len(data)) for name, (kind, shape, data) in tensors().items()}
    for row in shown:
        data = made[row["path"]][row["begin"] : row["begin"] + row["bytes"]]
        assert data == (tensors() | {"output.weight": ("", (), noise(9, 144))})[row["name"]][2]
    assert cli("audit", "-C", archive, "--level", "files").code == 0
    restores(archive, made)


def test_a_manifest_says_of_which_format_the_tensors_are(hub, mirror, cli, archive):
    hub.create(REPO, files() | {"no.gguf": b"GGUF" + noise(1, 60), "m.safetensors": noise(2, 50)})
    mirror()
    manifest = entries(cli, archive)
    assert manifest["model-Q4_K.gguf"]["container"] == "gguf"
    for path in ("no.gguf", "m.safetensors", "README.md"):
        assert not {"container", "tensors"} & manifest[path].keys()


def test_a_tensor_at_another_place_of_another_file_is_stored_once(hub, mirror, cli, archive):
    hub.create(REPO, files())
    mirror()
    rows = listed(cli, archive, "--tensors").kinds("tensor")
    by_name = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    for name in SHAPES:
        first, second = by_name[name]
        assert first["begin"] != second["begin"]
        assert first["segments"] == second["segments"]
    entry = entries(cli, archive)["other/model.gguf"]
    assert sum(size for size, _ in entry["segments"]) == entry["size"]
    segments = {digest for path in entries(cli, archive).values() for _, digest in path["segments"]}
    totals = listed(cli, archive).only("snapshot")["totals"]
    assert totals["objects"] == len(segments)


def test_what_two_revisions_do_not_share_is_told_down_to_tensors(hub, mirror, cli, archive):
    hub.create(REPO, files())
    mirror()
    (first,) = seals(archive)
    changed = tensors() | {"blk.0.attn_q.weight": ("Q4_0", (512, 512), noise(5, 512 * 288))}
    hub.create(REPO, files() | {"model-Q4_K.gguf": gguf_file(changed, {"general.name": "Newer"})})
    mirror()
    (second,) = set(seals(archive)) - {first}
    old, new = (f"{REPO}@{seal.name[:40]}" for seal in (first, second))
    result = cli("diff", "-C", archive, old, new, "--json")
    (row,) = result.kinds("tensor")
    assert (row["what"], row["name"], row["differs"]) == (
        "changed",
        "blk.0.attn_q.weight",
        ["dtype"],
    )


def test_types_are_counted_as_dtypes_are(hub, mirror, cli, archive):
    hub.create(REPO, {"m.gguf": files()["model-Q4_K.gguf"]})
    mirror()
    dtypes = cli("stats", "-C", archive, "--json").only("stats")["dtypes"]
    assert dtypes == {
        kind: {"tensors": 1, "size": len(data)} for kind, _, data in tensors().values()
    }
    (file,) = listed(cli, archive, "--files").kinds("file")
    assert (file["container"], file["tensors"]) == ("gguf", len(SHAPES))


def test_a_cut_off_file_is_kept_and_named(hub, mirror, restores, archive):
    whole = files()["model-Q4_K.gguf"]
    made = {"half.gguf": whole[: len(whole) // 2]}
    hub.create(REPO, made)
    result = mirror()
    assert result.code == 0
    assert "half.gguf was stored as plain bytes: The file is cut off" in result.out + result.err
    restores(archive, made)


def test_one_tensor_is_a_gguf_file_of_its_own(hub, mirror, cli, archive, tmp_path):
    hub.create(REPO, files())
    mirror()
    for number, (name, (kind, shape, data)) in enumerate(tensors().items()):
        result = cli("restore", "-C", archive, REPO, tmp_path / "out", "--tensor", name, "--json")
        path = tmp_path / "out" / f"{name}.gguf"
        assert result.only("tensor")["file"] == str(path)
        assert result.only("tensor")["source"] == "model-Q4_K.gguf"
        (tensor,) = GGUFReader(path).tensors
        assert (tensor.name, tensor.tensor_type.name) == (name, kind)
        assert tuple(reversed(tensor.shape.tolist())) == shape
        assert tensor.data.tobytes() == data
        assert path.stat().st_size % 32 == 0
        again = cli("restore", "-C", archive, REPO, path, "--tensor", name)
        assert (again.code, again.out) == (0, f"{path} was there already.\n")
        assert len(list((tmp_path / "out").iterdir())) == number + 1


def test_a_tensor_goes_into_no_file_of_another_format(hub, mirror, cli, archive, tmp_path):
    hub.create(REPO, files() | {"m.safetensors": safetensors({"t": ("U8", (2,), b"ab")})})
    mirror()
    for name, path in (("blk.0.attn_q.weight", "x.safetensors"), ("t", "x.gguf")):
        result = cli("restore", "-C", archive, REPO, tmp_path / path, "--tensor", name)
        assert result.code == 2
        assert "cannot be written as" in result.err
        assert not (tmp_path / path).exists()


def test_several_tensors_of_a_name_ask_for_the_file(hub, mirror, cli, archive, tmp_path):
    """The quantizations of a model have the same names."""
    made = {
        f"m-{kind}.gguf": gguf_file({"w": (kind, (2, 256), tensor_bytes(kind, (2, 256)))})
        for kind in ("Q8_0", "Q4_K")
    }
    hub.create(REPO, made)
    mirror()
    result = cli("restore", "-C", archive, REPO, tmp_path / "w.gguf", "--tensor", "w")
    assert result.code == 2
    assert "2 different tensors" in result.err
    assert "m-Q4_K.gguf, m-Q8_0.gguf" in result.err
    for kind in ("Q8_0", "Q4_K"):
        path = tmp_path / f"{kind}.gguf"
        words = ("--tensor", "w", "--file", f"m-{kind}.gguf")
        assert cli("restore", "-C", archive, REPO, path, *words).code == 0
        (tensor,) = GGUFReader(path).tensors
        assert tensor.tensor_type.name == kind
    result = cli("restore", "-C", archive, REPO, tmp_path, "--tensor", "w", "--file", "*.txt")
    assert (result.code, "no tensor w in '*.txt'" in result.err) == (2, True)


def part(number: int, total: int, name: str = "q/model-Q4_K") -> str:
    return f"{name}-{number:05}-of-{total:05}.gguf"


PARTS = {part(1, 4), part(3, 4), part(1, 2, "whole"), part(2, 2, "whole"), part(0, 3, "odd")}


@pytest.mark.parametrize("imported", [False, True])
def test_parts_of_a_split_model_that_upstream_has_not(
    hub, mirror, cli, archive, tmp_path, imported
):
    made = {path: gguf_file({path: ("I8", (1,), b"a")}) for path in sorted(PARTS)}
    if imported:
        (tmp_path / "folder" / "q").mkdir(parents=True)
        for path, data in made.items():
            (tmp_path / "folder" / path).write_bytes(data)
        result = cli("import", "--json", "-C", archive, tmp_path / "folder", "--as", REPO)
    else:
        hub.create(REPO, made)
        result = mirror("--json")
    assert result.code == 0
    assert result.only("mirror")["remarks"] == [
        {
            "kind": "shards-missing",
            "paths": [part(2, 4), part(4, 4)],
            "count": 2,
            "index": part(1, 4),
            "total": 4,
        }
    ]
    assert f"{part(1, 4)} is one of 4 shards; 2 of them are not there: {part(2, 4)}" in result.err


def test_of_what_patterns_leave_out_only_that_is_told(hub, mirror):
    hub.create(REPO, {path: gguf_file({path: ("I8", (1,), b"a")}) for path in sorted(PARTS)})
    result = mirror("--json", "--include", "whole-00001*")
    (remark,) = result.only("mirror")["remarks"]
    assert (remark["kind"], remark["paths"]) == ("shards-not-chosen", [part(2, 2, "whole")])


def test_numbers_that_claim_a_hundred_thousand_parts_are_bounded(hub, mirror):
    hub.create(REPO, {part(1, 99_999, f"m{number}"): b"" for number in range(40)})
    remarks = mirror("--json").only("mirror")["remarks"]
    assert [(len(remark["paths"]), remark["count"]) for remark in remarks] == [(1000, 99_998)]


def test_verify_remarks_on_parts_that_the_manifest_does_not_list(
    hub, mirror, cli, archive, tmp_path
):
    hub.create(REPO, {path: gguf_file({path: ("I8", (1,), b"a")}) for path in sorted(PARTS)})
    mirror()
    cli("manifest", "export", "-C", archive, REPO, "-o", tmp_path / "m.json")
    cli("restore", "-C", archive, REPO, tmp_path / "out")
    result = cli("verify", "--json", tmp_path / "out", "--manifest", tmp_path / "m.json")
    assert result.code == 0
    (finding,) = result.findings
    assert (finding["code"], finding["path"]) == ("index-incomplete", part(1, 4))
    assert finding["files"] == [part(2, 4), part(4, 4)]


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_a_killed_run_is_taken_up(hub, zygote, archive, cli, restores, share):
    """In the middle of a header that is read in several steps, and in that of the tensors."""
    words = [f"word {number:06} " + "x" * 200 for number in range(10_000)]
    made = {f"t{number}": ("BF16", (512, 1024), bf16(number, 512, 1024)) for number in range(40)}
    whole = {"m.gguf": gguf_file(made, {"words": words})}
    size = len(whole["m.gguf"])
    hub.create(REPO, whole)
    hub.rate = 60_000_000
    hub.faults.add(Fault("stall", path="m.gguf", route="cdn", after=size - 1, seconds=600))
    command = ("mirror", "-C", archive, REPO, "--jobs", 1, "--connections", 1, "--effort", "fast")
    first = zygote.start(*command, cores=1)
    wait_until(lambda: sum(one.sent for one in hub.requests.bodies()) >= share * size)
    first.kill()
    assert first.wait().code == -9
    kept = resumable_bytes(archive, "m.gguf")
    assert share < 0.5 or kept > 8 * MIB
    assert not seals(archive)
    hub.requests.clear()
    hub.rate = None
    assert zygote.start(*command, cores=1).wait().code == 0
    assert sum(one.sent for one in hub.requests.bodies()) == size - kept
    assert len(listed(cli, archive, "--tensors").kinds("tensor")) == 40
    restores(archive, whole)


def test_damage_is_told_by_tensor_and_rows(hub, mirror, cli, archive, tmp_path):
    data = noise(5, 512 * 288)
    hub.create(REPO, {"m.gguf": gguf_file(tensors() | {"lost": ("Q4_K", (512, 512), data)})})
    mirror()
    (pack,) = archive.glob("packs/*/*.pack")
    flip_inside(pack, data[1000:1100])
    result = cli("audit", "--json", "-C", archive, "--level", "content")
    assert result.code == 20
    (finding,) = [row for row in result.damage if row["code"] == "object-damaged"]
    assert (finding["path"], finding["tensor"]) == ("m.gguf", "lost")
    assert finding["rows"] == [0, 511]
    restored = cli("restore", "--json", "-C", archive, REPO, tmp_path / "out")
    (failure,) = restored.only("restore")["failures"]
    assert failure["tensor_rows"] == [{"name": "lost", "first": 0, "last": 511}]


def test_six_of_the_longest_headers_at_once_take_little(archive, tmp_path):
    """Read in steps of 16, 32 and 64 MB, each of them by another thread."""
    (tmp_path / "folder").mkdir()
    whole = gguf_file({"a": ("I8", (1,), b"a")}, {"words": ["x" * 60_000] * 1000})
    for number in range(6):
        (tmp_path / "folder" / f"{number}.gguf").write_bytes(whole + bytes(number))
    command = ("import", "-C", archive, tmp_path / "folder", "--as", REPO, "--effort", "fast")
    result = archiver(*command, "--jobs", 6).cheap()
    assert (result.code, "plain bytes" in result.err) == (0, False)


@pytest.mark.parametrize("jobs", [1, 3])
def test_vocabularies_of_many_megabytes(hub, mirror, cli, archive, restores, jobs):
    """Beyond 8 MiB there is one such header in memory at a time, read in several steps."""
    words = [f"word {number:06} " + "x" * 200 for number in range(80_000)]
    made = {
        f"{number}.gguf": gguf_file(
            {"a": ("I8", (number,), noise(number, number))}, {"words": words}
        )
        for number in range(1, 4)
    }
    hub.create(REPO, made)
    assert mirror("--jobs", jobs).code == 0
    assert all(entry["container"] == "gguf" for entry in entries(cli, archive).values())
    restores(archive, made)
