"""The file that ``inventory`` writes."""


def test_an_inventory_that_finds_no_room_leaves_nothing(tmp_path, cli):
    archive = tmp_path / "weights"
    assert cli("init", "-C", archive).code == 0
    (tmp_path / "inventory.json.partial").symlink_to("/dev/full")
    result = cli("inventory", "-C", archive, "-o", tmp_path / "inventory.json")
    assert result.code == 31
    assert "No space" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
