"""A model whose papers say something, and the programs that read them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
import warnings
from pathlib import Path

from kit.processes import start
from kit.repository import model

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its own, of pydantic's older ways
    from olot.modelpack.model_config import Model
    from olot.oci.oci_image_index import OCIImageIndex
    from olot.oci.oci_image_manifest import OCIImageManifest

__all__ = ["Model", "OCIImageIndex", "OCIImageManifest"]

ROOT = Path(__file__).parents[2]
SKOPEO = "/usr/bin/skopeo"
REGISTRY = ROOT / ".venv/debian/usr/bin/docker-registry"
"""The Makefile unpacks the package there: installed, it would begin to listen for others."""
CARD = b"""---
license: apache-2.0
pipeline_tag: text-generation
base_model: [org/base]
datasets:
- org/texts
- other
---
# A model
"""
CONFIG = {"architectures": ["TinyForCausalLM"], "model_type": "tiny", "dtype": "bfloat16"}


def described_model(seed: int = 0) -> dict[str, bytes]:
    """A small repository with a card, a full config.json, code, and two files of the same bytes."""
    return model(seed) | {
        "README.md": CARD,
        "config.json": json.dumps(CONFIG).encode(),
        "run.py": b"print()\n",
        "sub/twin.md": CARD,
    }


def blobs(layout: Path) -> dict[str, bytes]:
    """The blobs of a layout, each proven to be what its name says."""
    paths = (layout / "blobs/sha256").glob("[!.]*")  # no unfinished ones
    found = {path.name: path.read_bytes() for path in paths}
    for name, data in found.items():
        assert hashlib.sha256(data).hexdigest() == name
    return found


def index(layout: Path) -> dict:
    return json.loads((layout / "index.json").read_bytes())


def names(layout: Path) -> dict[str, str]:
    """What the index names, each with its digest."""
    key = "org.opencontainers.image.ref.name"
    return {each["annotations"][key]: each["digest"] for each in index(layout)["manifests"]}


def manifest_of(layout: Path, name: str) -> dict:
    return json.loads(blobs(layout)[names(layout)[name].removeprefix("sha256:")])


def config_of(layout: Path, name: str) -> dict:
    digest = manifest_of(layout, name)["config"]["digest"]
    return json.loads(blobs(layout)[digest.removeprefix("sha256:")])


def files_of(layout: Path, name: str) -> dict[str, bytes]:
    """The files of an artifact, as ModelPack names them."""
    held = blobs(layout)
    return {
        layer["annotations"]["org.cncf.model.filepath"]: held[layer["digest"].split(":")[1]]
        for layer in manifest_of(layout, name)["layers"]
    }


def everything(folder: Path) -> dict[str, bytes]:
    """Path and bytes of all that is below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def skopeo(*words: object) -> str:
    """Run skopeo; what it printed."""
    assert shutil.which(SKOPEO), "this test needs the package skopeo"
    command = [SKOPEO, "--insecure-policy", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def registry(folder: Path) -> str:
    """Start a registry that ends with the test; its address."""
    program = next(
        (each for each in (REGISTRY, Path("/usr/bin/docker-registry")) if each.exists()), None
    )
    assert program, "this test needs the program docker-registry: make test unpacks it"
    # It takes a port of its own choice, and says so in its log only.
    config, log = folder / "registry.yml", folder / "registry.log"
    fields = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": "127.0.0.1:0"},
        "log": {"level": "info", "formatter": "json"},
    }
    config.write_text(json.dumps(fields))
    with log.open("wb") as file:
        process = start([program, "serve", config], stdout=file, stderr=file)
    while True:
        assert process.poll() is None, log.read_text()
        for line in log.read_text().splitlines():
            _, found, address = line.partition("listening on ")
            if found:
                return address.split('"')[0]
        time.sleep(0.05)
