"""Other people's programs take a layout, and a registry gives back what went into it."""

from __future__ import annotations

import json

from exportkit import blobs, names, registry, skopeo
from kit.repository import files_below
from oras.client import OrasClient


def test_a_registry_gives_back_every_byte(held, export, layout, tmp_path):
    assert export("--tag", "v1").code == 0
    address = registry(tmp_path)
    there, back = f"docker://{address}/org/model:v1", tmp_path / "back"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:v1", there)
    skopeo("copy", "--src-tls-verify=false", there, f"oci:{back}:v1")
    assert blobs(back) == blobs(layout)
    assert names(back) == names(layout)
    out = tmp_path / "pulled"
    OrasClient(insecure=True).pull(target=f"{address}/org/model:v1", outdir=str(out))
    assert files_below(out) == held


def test_skopeo_finds_the_artifact_by_its_revision(held, export, layout):
    told = export("--json").only("oci")
    raw = json.loads(skopeo("inspect", "--raw", f"oci:{layout}:{told['revision']}"))
    assert raw["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert len(raw["layers"]) == len(held)
