"""What lies in a mounted archive: every file of every snapshot, byte for byte, and nothing else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest
from kit.archive import seals
from kit.mounts import PATIENCE, Mounted, digests, python


def sha256_of(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


def test_every_file_of_every_snapshot_is_there_byte_for_byte(held, mounted):
    for folder, files in held.files.items():
        assert digests(mounted.folder / folder) == sha256_of(files), folder


def test_nothing_else_is_there(held, mounted):
    code = """
import json, os, sys
print(json.dumps({os.path.relpath(at, sys.argv[1]): sorted(folders + names)
                  for at, folders, names in os.walk(sys.argv[1]) if at.count('/') < 99}))
"""
    seen = json.loads(python(code, mounted.folder))
    assert seen["."] == [".hub", "datasets", "modelscope:org", "org"]
    assert seen["org/model"] == sorted([held.first, held.second, "main", "next", "v1%2Fold"])
    assert seen["datasets/org/data"][-1] == "main"
    assert seen["modelscope:org/model"][-1] == "master"
    assert seen[".hub"] == ["datasets--org--data", "models--org--model"]
    assert seen[".hub/models--org--model/refs"] == ["main", "next", "v1"]
    assert seen[".hub/models--org--model/snapshots"] == sorted([held.first, held.second])


def test_names_of_upstream_lead_to_their_revisions(held, mounted):
    code = "import os, sys; print(*(os.readlink(path) for path in sys.argv[1:]))"
    names = [mounted.folder / "org/model" / name for name in ("main", "next", "v1%2Fold")]
    assert python(code, *names).split() == [held.second, held.second, held.first]
    code = "import sys; print(*(open(path).read() for path in sys.argv[1:]))"
    refs = mounted.folder / ".hub/models--org--model/refs"
    assert python(code, refs / "main", refs / "v1/old").split() == [held.second, held.first]


def test_what_stat_says(held, mounted):
    code = """
import json, os, sys
print(json.dumps([[*os.lstat(path)[:10]] for path in sys.argv[1:]]))
"""
    folder = mounted.folder / "org/model" / held.first
    file, above = json.loads(python(code, folder / "model.safetensors", folder))
    assert (oct(file[0]), oct(above[0])) == ("0o100444", "0o40555")
    assert file[6] == len(held.files[f"org/model/{held.first}"]["model.safetensors"])
    sealed = json.loads(next(held.archive.glob(f"snapshots/org/model/{held.first}*")).read_text())
    code = (
        "import datetime, sys; print(int(datetime.datetime.fromisoformat(sys.argv[1]).timestamp()))"
    )
    assert file[8] == above[8] == int(python(code, sealed["sealed"]))


def test_how_much_there_is(held, mounted):
    code = """
import os, sys
disk = os.statvfs(sys.argv[1])
print(disk.f_blocks * disk.f_frsize, disk.f_bfree, disk.f_files, disk.f_flag & os.ST_RDONLY)
"""
    size, free, files, read_only = map(int, python(code, mounted.folder).split())
    every = [data for files in held.files.values() for data in files.values()]
    assert 0 <= size - sum(map(len, every)) < 4096
    assert (free, files, read_only) == (0, len(every), os.ST_RDONLY)


def test_what_is_known_of_a_file_are_extended_attributes(held, mounted):
    code = """
import json, os, sys
print(json.dumps({name: os.getxattr(sys.argv[1], name).decode() for name in os.listxattr(sys.argv[1])}))
"""
    path = mounted.folder / "org/model" / held.first / "config.json"
    known = json.loads(python(code, path))
    data = held.files[f"org/model/{held.first}"]["config.json"]
    assert known["user.archiver.sha256"] == hashlib.sha256(data).hexdigest()
    assert len(known["user.archiver.blake3"]) == 64
    assert known["user.archiver.vouched"] == "upstream"
    assert known["user.archiver.proven"].startswith("20")


def test_random_slices_of_a_mapping_are_those_of_the_file(held, mounted, tmp_path):
    data = held.files[f"org/model/{held.second}"]["model.safetensors"]
    (tmp_path / "same").write_bytes(data)
    code = """
import mmap, os, random, sys
with open(sys.argv[1], 'rb') as one, open(sys.argv[2], 'rb') as other:
    here, there = (mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in (one, other))
    for seed in range(300):
        chance = random.Random(seed)
        begin = chance.randrange(len(there))
        end = begin + int(2 ** chance.uniform(0, 22))
        assert here[begin:end] == there[begin:end], (seed, begin, end)
    for offset in (0, 1 << 24, len(there) - 1, len(there), len(there) + 5):
        assert os.pread(one.fileno(), 3, offset) == os.pread(other.fileno(), 3, offset)
print('same')
"""
    path = mounted.folder / "org/model/main/model.safetensors"
    assert python(code, path, tmp_path / "same") == "same\n"


def test_many_processes_read_at_once(held, mounted):
    code = """
import hashlib, sys
print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256').hexdigest())
"""
    names = ["config.json", "model.safetensors", "model.gguf"] * 7
    folder = mounted.folder / "org/model/main"
    readers = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", code, folder / name], stdout=subprocess.PIPE, text=True
        )
        for name in names[:20]
    ]
    try:
        seen = [reader.communicate(timeout=PATIENCE)[0].strip() for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
    expected = sha256_of(held.files[f"org/model/{held.second}"])
    assert seen == [expected[name] for name in names[:20]]


@pytest.mark.parametrize(
    "change",
    [
        "open(path, 'r+b')",
        "open(path, 'ab')",
        "open(path + '.new', 'xb')",
        "os.unlink(path)",
        "os.rename(path, path + '.new')",
        "os.truncate(path, 0)",
        "os.chmod(path, 0o600)",
        "os.utime(path)",
        "os.setxattr(path, 'user.archiver.sha256', b'')",
        "os.link(path, path + '.new')",
        "os.symlink(path, path + '.new')",
        "os.mkdir(path + '.new')",
        "os.rmdir(os.path.dirname(path))",
        "os.mkfifo(path + '.new')",
    ],
)
def test_nothing_can_be_changed(held, mounted, change):
    code = f"""
import os, sys
path = sys.argv[1]
try:
    {change}
except OSError as error:
    print(error.errno)
"""
    path = mounted.folder / "org/model" / held.first / "config.json"
    assert python(code, path) == f"{errno.EROFS}\n"


def test_each_snapshot_of_a_revision_has_a_folder(served, mirror, archive, tmp_path):
    assert mirror("--include", "config.json").code == 0
    assert mirror().code == 0
    part, whole = sorted(seals(archive, "org/model"), key=lambda path: path.stat().st_mtime_ns)
    revision, seal = part.name.split(".")[:2]
    with Mounted(archive, tmp_path / "m") as running:
        folder = running.folder / "org/model"
        code = "import os, sys; print(*sorted(os.listdir(sys.argv[1])))"
        assert set(python(code, folder).split()) == {revision, seal[:12], "main"}
        assert digests(folder / revision) == sha256_of(served)
        assert list(digests(folder / seal[:12])) == ["config.json"]
    assert whole.name.startswith(revision)
