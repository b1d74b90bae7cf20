"""ModelScope's own client against the loopback: it is served as the real one would serve it."""

from __future__ import annotations

import json
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
from modelscope.hub.api import HubApi as OldApi
from modelscope_hub import HubApi
from modelscope.hub.snapshot_download import dataset_snapshot_download, snapshot_download
endpoint, folder, revision = sys.argv[1:]
api = HubApi(endpoint=endpoint)
print(json.dumps({
    "files": sorted(file.path for file in api.list_repo_files("Org/Model", "model", revision="master")),
    "revisions": OldApi(endpoint=endpoint).get_model_branches_and_tags("Org/Model"),
    "rows": OldApi(endpoint=endpoint).get_model_branches_and_tags_details("Org/Model")[1],
    "models": [repo.repo_id for repo in api.list_repos("model", owner="Org").items],
    "datasets": [repo.repo_id for repo in api.list_repos("dataset", owner="Org").items],
    "total": api.list_repos("model", owner="Org", page_size=1).total_count,
    "exists": [api.repo_exists("Org/Model", "model"), api.repo_exists("Org/None", "model")],
}))
snapshot_download("Org/Model", revision=revision, local_dir=folder + "/model")
snapshot_download("Org/Model", revision="v1", local_dir=folder + "/tag")
snapshot_download("Org/Model", revision="dev", local_dir=folder + "/branch")
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
    modelscope.create("Org/Model", {"config.json": b"[1]"})
    modelscope.tag("Org/Model", "v1")
    modelscope.commit("Org/Model", FILES)
    modelscope.branch("Org/Model", "dev")
    modelscope.commit("Org/Model", {"config.json": b"[2]"}, branch="dev")
    modelscope.create("Org/Other", {"a": b"1"})
    modelscope.create("Organic/Model", {"a": b"1"})
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
    told = json.loads(done.stdout.splitlines()[0])
    assert told["files"] == sorted([*FILES, "below"])
    assert told["revisions"] == [["master", "dev"], ["v1"]]
    assert (told["models"], told["total"]) == (["Org/Model", "Org/Other"], 2)
    assert (told["datasets"], told["exists"]) == (["Org/Rows"], [True, False])
    assert below(tmp_path / "model") == FILES
    assert below(tmp_path / "tag") == {"config.json": b"[1]"}
    assert below(tmp_path / "branch") == FILES | {"config.json": b"[2]"}
    assert below(tmp_path / "rows") == {"rows/a.csv": b"1\n", "README.md": b"# rows"}
    assert fault is None or fault.hits == 1
    unknown = [record for record in modelscope.requests if record.route == "unknown"]
    assert not unknown, unknown
