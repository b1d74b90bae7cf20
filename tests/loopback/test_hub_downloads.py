from __future__ import annotations

import hashlib
import http.client
import json
import struct
from pathlib import Path

import pytest
from hubkit import FILES, WEIGHTS

from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub

SAFETENSORS_HEADER = json.dumps(
    {"w": {"dtype": "BF16", "shape": [2, 4], "data_offsets": [0, 16]}}
).encode()


def test_snapshot_download_brings_every_file(hub, tiny, tmp_path):
    from huggingface_hub import snapshot_download

    folder = snapshot_download(tiny, endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*.*")}
    assert found == FILES
    assert {r.file for r in hub.requests.of(port="cdn")} == {
        "model.safetensors",
        "onnx/deep/model.onnx",
    }


def test_a_second_snapshot_fetches_nothing(hub, tiny, tmp_path):
    from huggingface_hub import snapshot_download

    for _ in range(2):
        hub.requests.clear()
        snapshot_download(tiny, endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    assert hub.requests.bodies() == []
    assert hub.requests.bytes_sent == 0


def test_cache_names_blobs_by_the_etag(hub, tiny, api, tmp_path):
    path = Path(api.hf_hub_download(tiny, "model.safetensors", cache_dir=tmp_path))
    assert path.resolve().name == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_file_on_disk_is_served_like_one_in_memory(hub, api, tmp_path):
    (tmp_path / "w").write_bytes(WEIGHTS)
    (tmp_path / "c").write_bytes(FILES["config.json"])
    source = {"model.safetensors": tmp_path / "w", "config.json": tmp_path / "c"}
    hub.create("org/disk", source)
    for name, data in source.items():
        path = api.hf_hub_download("org/disk", name, cache_dir=tmp_path / "cache")
        assert Path(path).read_bytes() == data.read_bytes()


@pytest.mark.parametrize("rate", [None, 50_000_000])
def test_stretches_of_a_file_on_disk(hub, tmp_path, get, rate):
    (tmp_path / "w").write_bytes(WEIGHTS)
    hub.create("org/tiny", {"model.safetensors": tmp_path / "w"})
    hub.rate = rate
    assert get("model.safetensors").body == WEIGHTS
    assert get("model.safetensors", Range="bytes=77-900000").body == WEIGHTS[77:900_001]
    hub.faults.add(Fault("flip", offset=300_001))
    assert get("model.safetensors", Range="bytes=300000-300002").body == b"\xe0\xe0\xe2"
    hub.faults.add(Fault("drop", after=400_000))
    with pytest.raises(http.client.IncompleteRead) as cut:
        get("model.safetensors")
    assert cut.value.partial == WEIGHTS[:400_000]
    assert hub.requests.bodies()[-1].sent == 400_000


def test_a_file_that_shrinks_on_disk_breaks_the_connection(hub, tmp_path, ask):
    (tmp_path / "c").write_bytes(b"x" * 1000)
    hub.create("org/tiny", {"c.txt": tmp_path / "c"})
    (tmp_path / "c").write_bytes(b"x" * 10)
    with pytest.raises(Exception, match=r"IncompleteRead\(10 bytes"):
        ask("/org/tiny/resolve/main/c.txt")
    assert hub.requests.bodies()[-1].sent == 10


def test_lfs_headers(tiny, ask):
    head = ask("/org/tiny/resolve/main/model.safetensors", "HEAD")
    assert (head.status, head.body) == (302, b"")
    assert head.headers["X-Linked-Etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert head.headers["X-Linked-Size"] == str(len(WEIGHTS))
    assert len(head.headers["X-Repo-Commit"]) == 40
    served = ask(head.headers["Location"], "HEAD")
    assert (served.status, served.headers["Content-Length"]) == (200, str(len(WEIGHTS)))


def test_plain_headers(tiny, ask):
    head = ask("/org/tiny/resolve/main/config.json", "HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(FILES["config.json"])))
    assert len(head.headers["ETag"].strip('"')) == 40
    assert head.headers["Accept-Ranges"] == "bytes"
    assert "X-Linked-Etag" not in head.headers


@pytest.mark.parametrize(
    ("asked", "at"),
    [
        ("0-0", slice(0, 1)),
        ("5-9", slice(5, 10)),
        ("2000-", slice(2000, 2100)),
        ("-7", slice(2093, 2100)),
        ("9-9999", slice(9, 2100)),
    ],
)
@pytest.mark.parametrize("file", ["README.md", "readme.bin"])
def test_ranges(hub, get, asked, at, file):
    hub.create("org/tiny", FILES | {"readme.bin": FILES["README.md"]})
    answer = get(file, Range=f"bytes={asked}")
    assert (answer.status, answer.body) == (206, FILES["README.md"][at])
    assert answer.headers["Content-Range"] == f"bytes {at.start}-{at.stop - 1}/2100"


def test_a_range_outside_is_refused(tiny, get):
    for asked in ("bytes=2100-", "bytes=-0", "bytes=9-3"):
        answer = get("README.md", Range=asked)
        assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */2100")


def test_a_range_that_is_not_understood_is_ignored(tiny, get):
    for asked in ("bytes=0-1,5-6", "lines=1-2", "bytes=-"):
        assert get("README.md", Range=asked).status == 200


def test_an_empty_file(hub, get, api, tmp_path):
    hub.create("org/tiny", {"empty.txt": b"", "empty.bin": b""})
    assert get("empty.txt").body == get("empty.bin").body == b""
    path = api.hf_hub_download("org/tiny", "empty.bin", cache_dir=tmp_path)
    assert Path(path).read_bytes() == b""


def test_safetensors_metadata(hub, api):
    data = struct.pack("<Q", len(SAFETENSORS_HEADER)) + SAFETENSORS_HEADER + bytes(16)
    hub.create("org/st", {"model.safetensors": data})
    metadata = api.get_safetensors_metadata("org/st")
    assert metadata.parameter_count == {"BF16": 8}
    assert hub.requests.of(port="cdn")[0].range == "bytes=0-100000"


def test_the_file_system_of_the_client(hub, tiny):
    from huggingface_hub import HfFileSystem

    fs = HfFileSystem(endpoint=hub.endpoint, token=False, skip_instance_cache=True)
    assert set(fs.ls(f"{tiny}/onnx", detail=False)) == {
        f"{tiny}/onnx/config.json",
        f"{tiny}/onnx/deep",
    }
    assert fs.cat_file(f"{tiny}/README.md") == FILES["README.md"]
    with fs.open(f"{tiny}/model.safetensors", block_size=4096) as file:
        file.seek(100_000)
        assert file.read(10) == WEIGHTS[100_000:100_010]


def test_the_lfs_rule_can_be_replaced(hub, ask):
    hub.create("org/tiny", {"a.json": b"{}", "b.bin": b"b"}, lfs=lambda path, _: path == "a.json")
    assert ask("/org/tiny/resolve/main/a.json").status == 302
    assert ask("/org/tiny/resolve/main/b.bin").status == 200


def test_large_files_are_in_lfs_whatever_their_name(hub, tmp_path, ask):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(10 * 1024 * 1024 + 1)
    hub.create("org/tiny", {"notes.txt": tmp_path / "big"})
    assert ask("/org/tiny/resolve/main/notes.txt").status == 302


def test_links_of_the_cdn_expire_and_cannot_be_forged(hub, tiny, ask):
    link = ask("/org/tiny/resolve/main/model.safetensors").headers["Location"]
    assert link.startswith(hub.cdn)
    assert not link.startswith(hub.endpoint)
    assert ask(link).status == 200
    assert ask(link.replace("Expires=1", "Expires=2")).status == 403
    hub.link_seconds = -1
    expired = ask("/org/tiny/resolve/main/model.safetensors").headers["Location"]
    assert ask(expired).status == 403


def test_the_log_tells_what_was_sent(hub, tiny, get):
    get("model.safetensors", Range="bytes=10-19", Authorization="Bearer hf_x")
    first, second = hub.requests
    assert (first.port, first.route, first.status, first.token) == ("hub", "resolve", 302, "hf_x")
    assert (second.port, second.range, second.sent) == ("cdn", "bytes=10-19", 10)
    assert second.file == "model.safetensors"
    assert (len(hub.requests), hub.requests.bytes_sent) == (2, 10)


def test_the_client_keeps_its_token_from_the_cdn(tmp_path):
    from huggingface_hub import hf_hub_download

    with Hub() as hub:
        hub.tokens = {"hf_secret": ()}
        hub.create("org/tiny", FILES)
        hf_hub_download(
            "org/tiny",
            "model.safetensors",
            endpoint=hub.endpoint,
            token="hf_secret",
            cache_dir=tmp_path,
        )
        assert {r.token for r in hub.requests.of(port="hub")} == {"hf_secret"}
        assert {r.token for r in hub.requests.of(port="cdn")} == {""}
