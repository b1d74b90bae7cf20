"""What every store promises (archiver/storage/store.py), whatever it stands on."""

import threading

import pytest
from kit.store import publish

from archiver.errors import ArchiverError, DamageError
from archiver.storage.store import check_name

NAME = "packs/ab/abc.pack"


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


def test_a_barrier_and_an_address(store):
    store.barrier()
    assert store.address
    assert store.free_bytes() > 0


# Leftovers of the living


def test_a_file_that_is_being_written_is_no_leftover(store):
    staged = store.stage("pack")
    staged.write(b"x")
    assert list(store.leftovers("pack")) == []
    staged.publish(NAME)
    assert list(store.leftovers("pack")) == []


# Second names


def test_a_second_name_is_the_same_file(store):
    publish(store, NAME, b"data")
    store.link(NAME, "quarantine/20260101t000000z/packs/ab/abc.pack")
    assert read(store, NAME) == b"data"
    assert read(store, "quarantine/20260101t000000z/packs/ab/abc.pack") == b"data"


@pytest.mark.parametrize("size", [0, 1, (4 << 20) + 7])
def test_a_second_name_outlives_the_first(store, size):
    old, new = bytes(size), b"new" * 9
    publish(store, NAME, old)
    store.link(NAME, "trash/old")
    publish(store, NAME, new)
    assert read(store, NAME) == new
    assert store.get("trash/old", size) == old
    store.remove(NAME)
    assert store.get("trash/old", size) == old


def test_a_moved_file_has_the_other_name_only(store):
    publish(store, NAME, b"data")
    store.move(NAME, "trash/x/packs/ab/abc.pack")
    assert list(store.list("")) == ["trash/x/packs/ab/abc.pack"]
    store.move("trash/x/packs/ab/abc.pack", NAME)
    assert list(store.list("")) == [NAME]
    assert read(store, NAME) == b"data"


@pytest.mark.parametrize("use", ["link", "move"])
def test_no_file_is_overwritten_by_a_second_name(store, use):
    publish(store, NAME, b"data")
    publish(store, "other", b"other")
    for taken in ("other", NAME):
        with pytest.raises(FileExistsError):
            getattr(store, use)(NAME, taken)
    assert (read(store, NAME), read(store, "other")) == (b"data", b"other")


@pytest.mark.parametrize("use", ["link", "move"])
def test_what_is_not_there_gets_no_second_name(store, use):
    store.put_new("journal/a", b"x")
    for name in ("nothing", "journal", "journal/a/below"):
        with pytest.raises(FileNotFoundError):
            getattr(store, use)(name, "other")
    assert list(store.list("")) == ["journal/a"]


def test_a_removed_file_is_gone_and_may_come_again(store):
    publish(store, NAME, b"data")
    for _ in range(2):
        store.remove(NAME)
        assert store.stat(NAME) is None
    store.remove("nowhere/at/all")
    store.put_new("journal/a", b"x")
    store.remove("journal/a/below")
    assert store.put_new(NAME, b"again")
    assert read(store, NAME) == b"again"


@pytest.mark.parametrize("name", ["../a", "Upper", "a//b", ""])
def test_odd_names_are_no_second_names(store, name):
    store.put_new("a", b"x")
    for use in (
        lambda: store.link("a", name),
        lambda: store.link(name, "b"),
        lambda: store.move("a", name),
        lambda: store.remove(name),
        lambda: store.barrier([name]),
    ):
        with pytest.raises(ArchiverError):
            use()
    assert list(store.list("")) == ["a"]


def test_a_barrier_takes_names_that_are_gone(store):
    store.put_new("a/b", b"x")
    store.barrier(["a/b", "a/c", "nowhere/at/all", "a/b/below"])


# Reading back


def test_what_is_being_written_can_be_read_back(store):
    staged = store.stage("pack")
    for part in (b"one", b"two"):
        staged.write(part)
        reader = staged.reader()
        reader.fresh()
        buffer = bytearray(reader.size)
        assert reader.read_into(0, memoryview(buffer)) == reader.size
        assert buffer == b"onetwo"[: reader.size]
        reader.close()
    staged.cut(4)
    staged.write(b"x")
    staged.publish(NAME)
    assert read(store, NAME) == b"onetx"


# Leftovers


def test_a_kept_file_can_be_gone_on_with(store):
    staged = store.stage("pack")
    staged.write(b"whole torn")
    staged.keep()
    (left,) = store.leftovers("pack")
    again = left.resume(6)
    again.write(b"end")
    again.publish(NAME)
    assert read(store, NAME) == b"whole end"
    assert list(store.leftovers("pack")) == []
