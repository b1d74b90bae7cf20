"""What a smoke test says where the machine, not the model, is at fault."""

from __future__ import annotations

import tempfile

import pytest
from levelkit import climb

from archiver.errors import ArchiverError
from archiver.smoke import worker
from archiver.smoke.run import scratch


@pytest.mark.parametrize("chosen", [None, "/nowhere/at/all"])
def test_without_a_folder_for_temporary_files_it_says_what_to_set(monkeypatch, chosen):
    monkeypatch.setattr(tempfile, "tempdir", chosen)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    with pytest.raises(ArchiverError) as error, scratch():
        pass
    assert "TMPDIR" in error.value.hint
    assert "a file:" not in error.value.message


def test_a_level_for_which_memory_does_not_suffice_could_not_run(made, monkeypatch):
    def fail(_trial):
        raise MemoryError

    monkeypatch.setitem(worker._CHECKS, "structure", fail)
    done = climb(made, ("structure",))
    assert done.verdicts == {"structure": "skipped"}
    assert "--memory" in done["structure"].hint
    assert "Level structure" in done["structure"].reason
