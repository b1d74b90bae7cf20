"""A new archive goes into an empty folder, or one where making it was interrupted; into no other."""

import pytest

from archiver.archive.archive import Archive
from archiver.errors import ArchiverError, UsageError


def test_what_an_interrupted_run_left_is_gone_on_with(root):
    Archive.create(root)
    (root / "archive.json").unlink()
    (root / "decode.py").unlink()
    (root / "tmp" / "put-host-1-abc").write_bytes(b"half")
    made = Archive.create(root)
    assert Archive.open(root).info == made.info
    assert (root / "decode.py").exists()


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "README.txt", "tmp/mine", "packs/x", "archive.json", "place.json", ".hidden"],
)
def test_a_folder_of_something_else_is_refused_and_left_alone(root, name):
    path = root / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="empty"):
        Archive.create(root)
    assert [one for one in root.rglob("*") if one.is_file()] == [path]
    assert path.read_bytes() == b"mine"


def test_links_and_files_are_refused(root, tmp_path):
    root.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArchiverError):
        Archive.create(root)
    root.unlink()
    root.write_bytes(b"")
    with pytest.raises(UsageError):
        Archive.create(root)
