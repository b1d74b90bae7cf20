"""ModelScope's own client against the loopback: it is served as the real one would serve it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from archiver.loopback.faults import Fault
from archiver.loopback.modelscope import commit_id

FILES = {
    "model.safetensors": bytes(range(256)) * 900,
    "config.json": b"{}",
    "empty": b"",
    "below/merges.txt": b"a b\n" * 100,
}
CLIENT = """
import json, sys
from modelscope_hub import HubApi
from modelscope.hub.snapshot_download import dataset_snapshot_download, snapshot_download
endpoint, folder, revision = sys.argv[1:]
api = HubApi(endpoint=endpoint)
files = api.list_repo_files("Org/Model", "model", revision="master")
print(json.dumps(sorted(getattr(file, "path", file) for file in files)))
snapshot_download("Org/Model", revision=revision, local_dir=folder + "/model")
dataset_snapshot_download("Org/Rows", local_dir=folder + "/rows")
"""


def below(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if not path.relative_to(folder).parts[0].startswith(("._____", ".msc", ".mv", ".mdl"))
    }


@pytest.mark.parametrize("kind", ["", "drop", "rate_limit"])
def test_the_client_downloads_models_and_datasets(modelscope, tmp_path, kind):
    modelscope.create("Org/Model", FILES)
    modelscope.create("datasets/Org/Rows", {"rows/a.csv": b"1\n", "README.md": b"# rows"})
    commit = commit_id(modelscope.repositories["Org/Model"].head())
    fault = Fault(kind, route="cdn", after=5000) if kind else None
    if fault:
        modelscope.faults.add(fault)
    arguments = [modelscope.endpoint, str(tmp_path), commit if kind else "master"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLIENT, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={
            "HOME": str(tmp_path / "home"),
            "MODELSCOPE_ENDPOINT": modelscope.endpoint,
            "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",  # asks whether this machine is in its cloud
        },
    )
    assert done.returncode == 0, done.stderr
    assert below(tmp_path / "model") == FILES
    assert below(tmp_path / "rows") == {"rows/a.csv": b"1\n", "README.md": b"# rows"}
    assert fault is None or fault.hits == 1
    unknown = [record for record in modelscope.requests if record.route == "unknown"]
    assert not unknown, unknown
