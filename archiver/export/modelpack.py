"""The documents of an OCI artifact that is a model: ModelPack, the model format of the CNCF.

Each file is one layer as it is, neither compressed nor in a tar: the digest of a layer is the SHA-256 that
the manifest has of the file. Nothing in the documents depends on the time, the archive or the seal: a
revision has the same digest whoever exports it.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from archiver.archive.manifests import tensors_of
from archiver.export.text import document, listed
from archiver.tensors.weight_files import is_index, is_weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.records import FileEntry
    from archiver.export.model import ModelFacts

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE: Final = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.cncf.model.config.v1+json"
_LAYER_TYPE: Final = "application/vnd.cncf.model.{}.v1.raw"
_PATH: Final = "org.cncf.model.filepath"
_GUESSED: Final = "org.cncf.model.file.mediatype.untested"
_OCI: Final = "org.opencontainers.image."
REF_NAME: Final = f"{_OCI}ref.name"
"""The annotation of an index's entry that names it."""
MANIFEST_MAX: Final = 4 << 20
"""Bytes of a manifest that every registry takes, by the distribution specification."""

_DOCS: Final = re.compile(
    r"(?:readme|licen[cs]e|notice|copying|usage|acceptable|use_policy|responsible|changelog|citation|authors"
    r"|contributing|security)\b.*|.*\.(?:md|rst|pdf|png|jpe?g|gif|svg|webp|mp4)",
    re.IGNORECASE | re.DOTALL,
)
_CODE: Final = re.compile(
    r".*\.(?:py|pyi|sh|ipynb|c|cc|cpp|cu|cuh|h|hpp|go|rs|js|ts|java|swift|lua)|makefile|dockerfile",
    re.IGNORECASE | re.DOTALL,
)
_CONFIG: Final = re.compile(
    r".*\.(?:json|jsonl|yaml|yml|toml|cfg|ini|txt|model|tiktoken|jinja|jinja2|spm|vocab|bpe)|\.git.*",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_WEIGHTS: Final = re.compile(
    r".*\.(?:npz|npy|pdparams|mar|tflite|mlmodel|mlpackage|engine|ot|keras|pb|params|bin|data|dat|imatrix)",
    re.IGNORECASE | re.DOTALL,
)
_SCALES: Final = ((10**15, "Q"), (10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


class Artifact(NamedTuple):
    """A model's documents, and the descriptor by which an index names it; ``digest`` is the manifest's."""

    config: bytes
    manifest: bytes
    digest: str

    def descriptor(self, name: str) -> dict[str, Any]:
        """Return the entry of an index that calls it ``name``."""
        return {
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "digest": f"sha256:{self.digest}",
            "size": len(self.manifest),
            "annotations": {REF_NAME: name},
        }


def artifact(model: ModelFacts, files: Iterable[FileEntry]) -> Artifact:
    """Return the documents of a model of these files."""
    ordered = sorted(files, key=lambda file: file.path)
    config = document(_config(model, ordered))
    fields = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {
            "mediaType": CONFIG_TYPE,
            "digest": f"sha256:{hashlib.sha256(config).hexdigest()}",
            "size": len(config),
        },
        "layers": listed(_layer(file, is_dataset=model.is_dataset) for file in ordered),
        "annotations": _annotations(model),
    }
    manifest = document(fields)
    return Artifact(config, manifest, hashlib.sha256(manifest).hexdigest())


def _config(model: ModelFacts, files: list[FileEntry]) -> dict[str, Any]:
    return {
        "descriptor": _filled(
            name=model.name,
            vendor=model.organisation,
            family=model.family,
            revision=model.revision,
            createdAt=model.committed,
            sourceURL=model.url,
            licenses=[licence.expression for licence in model.licences],
        ),
        "config": _filled(
            architecture=model.architecture,
            format=model.format,
            paramSize=short_count(model.parameters),
            precision=model.precision,
            quantization=model.quantization,
        ),
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{file.sha256}" for file in files]},
    }


def _annotations(model: ModelFacts) -> dict[str, str]:
    (only,) = model.licences if len(model.licences) == 1 else (None,)
    known = _filled(
        title=model.repository.name,
        vendor=model.organisation,
        revision=model.revision,
        created=model.committed,
        source=model.url,
        licenses=only.expression if only else "",
    )
    return {f"{_OCI}{key}": value for key, value in known.items()}


def _filled(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def _layer(file: FileEntry, *, is_dataset: bool) -> dict[str, Any]:
    kind, is_sure = _kind(file, is_dataset=is_dataset)
    # The second name is where tools that know no ModelPack, such as oras, look for a file's name.
    annotations = {_PATH: file.path, f"{_OCI}title": file.path}
    if not is_sure:
        annotations[_GUESSED] = "true"
    return {
        "mediaType": _LAYER_TYPE.format(kind),
        "digest": f"sha256:{file.sha256}",
        "size": file.size,
        "annotations": annotations,
    }


def _kind(file: FileEntry, *, is_dataset: bool) -> tuple[str, bool]:
    """Return what a file is, and whether more than its name says so."""
    name = file.path.rpartition("/")[2]
    if tensors_of(file):
        return "weight", True
    if _DOCS.fullmatch(name):
        return "doc", False
    if _CODE.fullmatch(name):
        return "code", False
    if is_dataset:
        return "dataset", False
    if is_index(file.path, pickles=True) or _CONFIG.fullmatch(name):
        return "weight.config", False
    is_of_weights = is_weights(file.path) or _OTHER_WEIGHTS.fullmatch(name)
    return ("weight" if is_of_weights else "weight.config"), False


def short_count(count: int) -> str:
    """Return a count of parameters as ModelPack writes it, such as ``6.7B``; ``""`` for none."""
    for scale, letter in _SCALES:
        if count >= scale:
            tenths = (10 * count + scale // 2) // scale
            whole = f"{tenths // 10}.{tenths % 10}".removesuffix(".0")
            return f"{whole}{letter}" if tenths < 10**7 else ""
    return ""
