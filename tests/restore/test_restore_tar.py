"""A tar on stdout: read by GNU tar and Python, whole or failing there, whatever happens on the way."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import processes
from kit.repository import REPO, WEIGHTS, files_below, noise, write_folder
from restorekit import rot

from archiver.names import path_problems
from archiver.operations.restore.tar import TarStream

COMMAND = [sys.executable, "-m", "archiver"]
TAR = shutil.which("tar") or ""
BLOCK = 512


@pytest.fixture
def held(served, mirror):
    assert mirror().code == 0
    return served


@pytest.fixture
def send(archive):
    """Restore to stdout, in a process of its own: exit code, what came, and what was said."""

    def call(*words, reference=REPO, of=None):
        line = [*COMMAND, "restore", "-q", "-C", of or archive, reference, "-", "--layout", "tar"]
        return subprocess.run(
            [*map(str, line), *map(str, words)], capture_output=True, check=False, timeout=300
        )

    return call


def by_tar(data: bytes, folder) -> int:
    """Extract with GNU tar; its exit code."""
    folder.mkdir()
    words = [TAR, "-x", "-C", folder]
    return subprocess.run(words, input=data, capture_output=True, check=False).returncode


def by_python(data: bytes) -> dict[str, bytes]:
    """The files that Python reads from a pipe; raise ReadError if it is not whole."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_tar_and_python_read_the_same_files(held, send, tmp_path):
    done = send()
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) % 10_240 == 0
    assert by_tar(done.stdout, tmp_path / "out") == 0
    assert files_below(tmp_path / "out") == held == by_python(done.stdout)
    assert b"sent 7 files" in done.stderr
    assert b"every byte checked against upstream's digests" in done.stderr


def test_the_same_files_give_the_same_bytes(held, send, archive, cli, tmp_path):
    """Also from another archive, that took the files in at another time and in other packs."""
    first = send().stdout
    assert send("--memory", "200MB", "--check", "segments").stdout == first
    other = tmp_path / "other"
    assert cli("init", "-C", other).code == 0
    for words in (("--include", "*.json"), ()):
        assert cli("mirror", "-C", other, REPO, *words).code == 0
    assert send(of=other).stdout == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert {(m.mtime, m.mode, m.uid, m.gid, m.uname) for m in tar} == {
            (315_532_800, 0o644, 0, 0, "")
        }


def test_only_some_files(held, send):
    done = send("--file", "*.json")
    assert by_python(done.stdout).keys() == {"config.json", "tokenizer.json"}
    nothing = send("--file", "absent")
    assert (nothing.returncode, nothing.stdout) == (2, b"")


def test_nothing_but_the_tar_is_on_stdout(held, send):
    done = send("--json", "-v")
    assert by_python(done.stdout) == held
    assert b'{"kind": "restore"' in done.stderr
    absent = send("--json", reference="org/absent")
    assert absent.returncode == 2
    assert b"org/absent" in absent.stderr


def test_words_that_do_not_go_together(held, archive, cli, tmp_path):
    for words in (
        ("-",),
        (tmp_path / "out", "--layout", "tar"),
        ("-", "--layout", "tar", "--rename"),
        ("-", "--layout", "tar", "--tensor", "norm.weight"),
        ("-", "--layout", "tar", "--smoke-test"),
    ):
        assert cli("restore", "-C", archive, REPO, *words).code == 2
    assert not (tmp_path / "out").exists()


def test_a_terminal_gets_no_tar(held, archive):
    master, slave = os.openpty()
    words = ["restore", "-C", archive, REPO, "-", "--layout", "tar"]
    process = processes.start([*COMMAND, *words], stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    _, said = process.communicate(timeout=300)
    os.close(master)
    assert process.returncode == 2
    assert b"does not go to a terminal" in said


def test_a_stdout_that_is_closed_gets_no_tar(held, archive):
    """Nobody has what was sent there, so nothing was."""
    words = [*COMMAND, "restore", "-C", archive, REPO, "-", "--layout", "tar"]
    line = shlex.join(map(str, words))
    done = subprocess.run(["sh", "-c", f"{line} >&-"], stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert b"stdout is closed" in done.stderr
    assert b"sent" not in done.stderr


# ---- what is damaged


def test_a_damaged_file_is_left_out_and_whoever_reads_fails(held, archive, send, tmp_path):
    rot(archive, held["sub/folder/notes.txt"])
    done = send()
    assert done.returncode == 20
    assert b"sub/folder/notes.txt" in done.stderr
    assert b"6 files sent, 1 file could not be sent" in done.stderr
    assert b"archiver audit" in done.stderr
    assert by_tar(done.stdout, tmp_path / "out") != 0
    rest = {name: data for name, data in held.items() if name != "sub/folder/notes.txt"}
    assert files_below(tmp_path / "out") == rest
    with pytest.raises(tarfile.ReadError):
        by_python(done.stdout)


def test_stop_on_damage(held, archive, send, tmp_path):
    rot(archive, held["README.md"][:10])
    done = send("--stop-on-damage")
    assert done.returncode == 20
    assert b"5 not tried" in done.stderr
    assert by_tar(done.stdout, tmp_path / "out") != 0
    assert files_below(tmp_path / "out").keys() == {".gitattributes"}


def test_where_all_is_damaged_there_is_no_tar(held, archive, send, tmp_path):
    for pack in archive.rglob("*.pack"):
        pack.unlink()
    done = send("--file", WEIGHTS)
    assert done.returncode == 20
    assert by_tar(done.stdout, tmp_path / "out") != 0
    assert files_below(tmp_path / "out") == {}


@pytest.fixture
def large(archive, cli, tmp_path):
    """A file that is much larger than what a pipe and the buffers of one thread hold."""
    data = noise(1, 80 << 20)
    folder = write_folder(tmp_path / "large", {"a.txt": b"a", "weights.bin": data})
    words = ("--min-free", "0B", "--effort", "fast", "--as", "org/large")
    assert cli("import", "-C", archive, folder, *words).code == 0
    return data


def opened(archive):
    words = ["restore", "-q", "-C", archive, "org/large", "-", "--layout", "tar"]
    return processes.start(
        [*COMMAND, *words, "--memory", "200MB"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_what_rots_after_it_was_proven_is_not_taken_for_whole(archive, large, tmp_path):
    """It is compared again as it is sent; then the stream ends within the file."""
    process = opened(archive)
    begun = process.stdout.read(3 * BLOCK)  # the header of the large file has come: it was proven
    assert b"weights.bin" in begun
    rot(archive, large[-1000:])
    rest, said = process.communicate(timeout=300)
    assert process.returncode == 20
    assert b"weights.bin" in said
    assert by_tar(begun + rest, tmp_path / "out") != 0
    assert len(begun + rest) < len(large)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_sender_that_is_killed_leaves_no_whole_tar(archive, large, tmp_path, how):
    process = opened(archive)
    begun = process.stdout.read(20 << 20)
    process.send_signal(how)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert by_tar(begun + rest, tmp_path / "out") != 0
    with pytest.raises(tarfile.ReadError):
        by_python(begun + rest)


def test_a_reader_that_stops_is_one_sentence(archive, large):
    process = opened(archive)
    process.stdout.read(1000)
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(timeout=300) == 1
    assert said.count(b"archiver: ") == 1
    assert b"has stopped" in said
    assert b"Traceback" not in said


def test_a_full_disk_is_one_sentence(archive, large):
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        words = ["restore", "-q", "-C", archive, "org/large", "-", "--layout", "tar"]
        done = subprocess.run(
            [*COMMAND, *map(str, words)], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 31
    assert b"stdout" in done.stderr
    assert b"goes on from there" not in done.stderr


# ---- the stream itself


class Pipe:
    """Notes what is written, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: memoryview, /) -> int:
        self.writes.append(bytes(data))
        return len(data)

    def fileno(self) -> int:
        raise AssertionError("nobody waits")

    @property
    def data(self) -> bytes:
        return b"".join(self.writes)


def written(files: dict[str, bytes]) -> tuple[Pipe, TarStream]:
    pipe = Pipe()
    stream = TarStream(pipe)
    for name, data in files.items():
        stream.begin(name, len(data))
        for at in range(0, len(data), 700):
            stream.write(memoryview(data)[at : at + 700])
        stream.end_file(len(data))
    return pipe, stream


def test_after_no_write_is_it_whole_before_its_end(tmp_path):
    """A process that is killed leaves what it wrote: each reader must see that it is not all."""
    sizes = [0, 1, 511, 512, 513, 1024, 0, 0, 1400, 5]
    files = {f"{'long/' * (n % 3 * 20)}{n}": noise(n, size) for n, size in enumerate(sizes)}
    pipe, stream = written(files)
    before = len(pipe.writes)
    stream.end()
    for count in range(before + 1):
        cut = b"".join(pipe.writes[:count])
        with pytest.raises(tarfile.ReadError):
            by_python(cut)
        assert by_tar(cut, tmp_path / str(count)) != 0
    assert by_python(pipe.data) == files
    broken, stream = written(files)
    stream.break_off()
    with pytest.raises(tarfile.ReadError):
        by_python(broken.data)
    assert by_tar(broken.data, tmp_path / "broken") != 0
    assert files_below(tmp_path / "broken") == files


def test_a_file_beyond_what_ustar_can_say():
    pipe = Pipe()
    TarStream(pipe).begin("large", 1 << 40)
    stream = TarStream(pipe)
    stream.begin("large", 1 << 40)
    stream.write(memoryview(b"ab"))
    with tarfile.open(fileobj=io.BytesIO(pipe.data), mode="r|") as tar:
        assert tar.next().size == 1 << 40


PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60
).filter(lambda part: part not in {".", ".."} and len(part.encode()) <= 255)
PATHS = st.lists(
    st.lists(PART, min_size=1, max_size=8).map("/".join), min_size=1, max_size=6, unique=True
).filter(lambda paths: not path_problems(paths))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PATHS)
def test_any_path_comes_through(tmp_path_factory, paths):
    """Section 6.3 of the format: whatever a manifest may have as a path."""
    files = {path: path.encode() for path in paths}
    pipe, stream = written(files)
    stream.end()
    assert by_python(pipe.data) == files
    out = tmp_path_factory.mktemp("paths") / "out"
    assert by_tar(pipe.data, out) == 0
    below = os.fsencode(out)
    assert {path: (out / path).read_bytes() for path in paths} == files
    assert sum(len(names) for *_, names in os.walk(below)) == len(files)
    shutil.rmtree(out)
