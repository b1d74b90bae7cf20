"""What every store promises (archiver/storage/store.py), whatever it stands on."""

import threading

import pytest

from archiver.errors import ArchiverError, DamageError
from archiver.storage.store import check_name

NAME = "packs/ab/abc.pack"


def publish(store, name: str, data: bytes) -> None:
    staged = store.stage("pack")
    staged.write(data)
    staged.publish(name)


def read(store, name: str) -> bytes:
    return store.get(name, 1 << 20)


# Small files


def test_a_small_file_is_put_once(store):
    assert store.put_new("journal/a.json", b"first") is True
    assert store.put_new("journal/a.json", b"first") is False
    assert store.put_new("journal/a.json", b"second") is False
    assert read(store, "journal/a.json") == b"first"


def test_a_file_of_no_bytes(store):
    assert store.put_new("journal/empty", b"")
    assert read(store, "journal/empty") == b""
    assert store.stat("journal/empty") == 0


def test_what_is_not_there(store):
    store.put_new("journal/a.json", b"x")
    for name in ("nothing", "journal/b.json", "journal/a.json/below", "journal"):
        assert store.stat(name) is None
        with pytest.raises(FileNotFoundError):
            store.open(name)
        with pytest.raises(FileNotFoundError):
            store.get(name, 10)


def test_a_file_longer_than_it_may_be_is_damage(store):
    store.put_new("a", b"12345")
    assert store.get("a", 5) == b"12345"
    with pytest.raises(DamageError, match="5 bytes"):
        store.get("a", 4)


# Staged files


def test_a_staged_file_is_invisible_until_it_is_published(store):
    staged = store.stage("pack")
    staged.write(b"one")
    staged.write(bytearray(b"two"))
    staged.write(memoryview(b"three"))
    assert store.stat(NAME) is None
    assert list(store.list("packs")) == []
    staged.publish(NAME)
    assert read(store, NAME) == b"onetwothree"
    staged.abort()
    assert read(store, NAME) == b"onetwothree"


def test_an_aborted_file_leaves_nothing(store):
    staged = store.stage("pack")
    staged.write(b"x")
    staged.abort()
    staged.abort()
    assert list(store.list("")) == []


def test_publishing_the_same_again_changes_nothing(store):
    publish(store, NAME, b"same")
    publish(store, NAME, b"same")
    assert read(store, NAME) == b"same"
    assert list(store.list("")) == [NAME]


@pytest.mark.parametrize("damaged", [b"", b"whol", b"whole and more", b"whOle"])
def test_a_damaged_file_is_replaced_by_a_good_one_of_its_name(store, damaged):
    publish(store, NAME, damaged)
    publish(store, NAME, b"whole")
    assert read(store, NAME) == b"whole"
    assert list(store.list("")) == [NAME]


def test_many_threads_publish_under_one_name(store):
    failed = []

    def put() -> None:
        try:
            publish(store, NAME, b"same" * 1000)
            store.put_new("journal/a.json", b"{}")
        except (ArchiverError, OSError) as error:
            failed.append(error)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(store.list("")) == ["journal/a.json", NAME]
    assert read(store, NAME) == b"same" * 1000


# Reading


def test_ranges(store):
    publish(store, NAME, bytes(range(100)))
    reader = store.open(NAME)
    assert reader.size == 100
    for offset, size, got in ((0, 5, 5), (95, 5, 5), (95, 10, 5), (100, 1, 0), (10, 0, 0)):
        buffer = bytearray(size)
        assert reader.read_into(offset, memoryview(buffer)) == got
        assert bytes(buffer[:got]) == bytes(range(100))[offset : offset + got]
    reader.fresh()
    reader.close()
    reader.close()


def test_a_reader_outlives_a_replacement(store):
    publish(store, NAME, b"older")
    reader = store.open(NAME)
    publish(store, NAME, b"newer")
    buffer = bytearray(5)
    reader.read_into(0, memoryview(buffer))
    assert bytes(buffer) == b"older"


def test_threads_share_a_reader(store):
    publish(store, NAME, bytes(range(256)) * 400)
    reader = store.open(NAME)
    wrong = []

    def read_around(number: int) -> None:
        for step in range(200):
            at = (number * 31 + step * 97) % 100_000
            buffer = bytearray(50)
            reader.read_into(at, memoryview(buffer))
            if bytes(buffer) != (bytes(range(256)) * 2)[at % 256 : at % 256 + 50]:
                wrong.append(at)

    threads = [threading.Thread(target=read_around, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Names


def test_files_are_listed_by_folder(store):
    names = ["packs/ab/x.pack", "packs/aa/y.pack", "packs/top", "journal/2026/01/e.json"]
    for name in names:
        store.put_new(name, b"x")
    assert list(store.list("packs")) == ["packs/aa/y.pack", "packs/ab/x.pack", "packs/top"]
    assert sorted(store.list("")) == sorted(names)
    assert list(store.list("nowhere")) == []
    assert list(store.list("packs/top")) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "a/./b",
        "a/.hidden",
        "Upper",
        "README.md",
        "packs/README.txt",
        "a b",
        "a\\b",
        "a\0",
        "a\n",
        "ü",
        "a:b",
        "x" * 1025,
    ],
)
def test_odd_names_are_refused_everywhere(store, name):
    with pytest.raises(ArchiverError, match="name"):
        check_name(name)
    for use in (
        lambda: store.put_new(name, b"x"),
        lambda: store.get(name, 1),
        lambda: store.open(name),
        lambda: store.stat(name),
        lambda: publish(store, name, b"x"),
    ):
        with pytest.raises(ArchiverError):
            use()


@pytest.mark.parametrize("name", ["README.txt", "FORMAT.md", "a", "_/a", "-", "a.b-c_d/0.x"])
def test_names_of_the_format_are_taken(store, name):
    assert store.put_new(name, b"x")
    assert read(store, name) == b"x"


def test_a_barrier_and_a_description(store):
    store.barrier()
    assert store.describe()
    assert store.free_bytes() > 0


# Leftovers of the living


def test_a_file_that_is_being_written_is_no_leftover(store):
    staged = store.stage("pack")
    staged.write(b"x")
    assert list(store.leftovers("pack")) == []
    staged.publish(NAME)
    assert list(store.leftovers("pack")) == []
