"""A mount keeps its budget of memory, whatever is read from it at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from kit.mounts import PATIENCE, Mounted
from kit.repository import noise, write_folder

CACHE, DECODERS = 64 << 20, 2 * 75_000_000
READERS, FILES = 16, 4
READ = """
import os, random, sys
chance = random.Random(int(sys.argv[2]))
names = sorted(os.listdir(sys.argv[1]))
for _ in range(6):
    with open(os.path.join(sys.argv[1], chance.choice(names)), 'rb', 0) as file:
        file.seek(chance.randrange(os.fstat(file.fileno()).st_size))
        while file.read(1 << 20) and chance.random() < 0.95:
            pass
"""


def test_readers_of_many_places_take_no_more_than_the_cache(cli, archive, tmp_path):
    files = {f"{number}.bin": noise(number, 48 << 20) for number in range(FILES)}
    folder = write_folder(tmp_path / "large", files)
    words = ("--as", "org/large", "--min-free", "0B")
    assert cli("import", "-C", archive, folder, *words).code == 0
    with Mounted(archive, tmp_path / "m", "--cache", "64MiB") as running:
        status = Path(f"/proc/{running.process.pid}/status")
        before = _peak(status)
        readers = [
            subprocess.Popen(
                [sys.executable, "-S", "-c", READ, running.folder / "org/large/main", str(number)]
            )
            for number in range(READERS)
        ]
        try:
            assert {reader.wait(PATIENCE) for reader in readers} == {0}
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()
        # What comes beside the cache and the decoders: requests of 128 KiB, threads, the manifest.
        assert _peak(status) < before + CACHE + DECODERS + 60_000_000
        assert running.end() == 0


def _peak(status: Path) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1]) * 1024
