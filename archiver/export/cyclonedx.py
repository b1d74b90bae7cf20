"""A bill of materials of a model or dataset: CycloneDX 1.6, as JSON, with a model card as far as is known.

Its time is that of the seal, and its serial number is made of the seal's id: the same seal has the same
bill, byte for byte.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from archiver.export.text import document, listed, moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot
    from archiver.archive.vouching import Vouch
    from archiver.export.licences import Licence
    from archiver.export.model import ModelFacts

_SCHEMA: Final = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_MODEL: Final = "model"
"""The reference of the model itself."""
_SERIAL: Final = "urn:weights-archiver:snapshot:"
"""With a seal's id, the name of which a version 5 UUID is made."""
_OURS: Final = "archiver:"
_PURL_OF: Final = "https://huggingface.co/"
"""Where package URLs of the type ``huggingface`` are by default."""

VouchedFile = tuple["FileEntry", "Vouch"]


def bill_of_materials(
    model: ModelFacts, snapshot: Snapshot, vouched: Iterable[VouchedFile]
) -> bytes:
    """Return the bill of a snapshot, of its files and who vouched for each."""
    files = sorted(vouched, key=lambda pair: pair[0].path)
    references = _references(entry for entry, _ in files)
    sealed = moment(snapshot.seal.sealed)
    metadata: dict[str, Any] = {
        "tools": {"components": [{"type": "application", "name": "archiver"}]},
        "component": _model(model, snapshot),
    }
    if sealed:
        metadata["timestamp"] = sealed
    return document(
        {
            "$schema": _SCHEMA,
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": serial_number(snapshot.id),
            "version": 1,
            "metadata": metadata,
            "components": listed(map(_component, files, references)),
            "dependencies": listed(
                [
                    {"ref": _MODEL, "dependsOn": references},
                    *({"ref": reference} for reference in references),
                ]
            ),
            "compositions": [{"aggregate": _aggregate(snapshot), "dependencies": [_MODEL]}],
        }
    )


def serial_number(snapshot_id: str) -> str:
    """Return the serial number of the bill of that seal."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{_SERIAL}{snapshot_id}").urn


def _aggregate(snapshot: Snapshot) -> str:
    """Return whether these are all files of the revision, in the words of CycloneDX."""
    selection = snapshot.seal.selection
    if selection.chosen:
        return "incomplete"
    return "complete" if selection.whole and snapshot.sealed else "unknown"


def _model(model: ModelFacts, snapshot: Snapshot) -> dict[str, Any]:
    seal = snapshot.seal
    fields: dict[str, Any] = {
        "type": "data" if model.is_dataset else "machine-learning-model",
        "bom-ref": _MODEL,
        "name": model.name,
        "version": model.revision,
        "licenses": [{"license": _licence(licence)} for licence in model.licences],
        "purl": _purl(model),
        "group": model.organisation,
        "properties": _properties(
            repository=seal.repository,
            committed=model.committed,
            snapshot=snapshot.id if snapshot.sealed else "",
            **{"manifest-blake3": seal.manifest.blake3},
            format=model.format,
            precision=model.precision,
            quantization=model.quantization,
            parameters=str(model.parameters or ""),
        ),
    }
    if model.url:
        fields["externalReferences"] = [{"type": "distribution", "url": model.url}]
    if model.base_models:
        kind = fields["type"]
        ancestors = [{"type": kind, "name": name} for name in model.base_models]
        fields["pedigree"] = {"ancestors": ancestors}
    if model.is_dataset:
        fields["data"] = [{"type": "dataset", "name": model.name}]
    elif parameters := _parameters(model):
        fields["modelCard"] = {"modelParameters": parameters}
    return {key: value for key, value in fields.items() if value}


def _parameters(model: ModelFacts) -> dict[str, Any]:
    known = {
        "task": model.task,
        "architectureFamily": model.family,
        "modelArchitecture": model.architecture,
        "datasets": [{"type": "dataset", "name": name} for name in model.datasets],
    }
    return {key: value for key, value in known.items() if value}


def _licence(licence: Licence) -> dict[str, str]:
    named = {"id": licence.spdx} if licence.spdx else {"name": licence.name}
    url = {"url": licence.url} if licence.url else {}
    return named | url | {"acknowledgement": "declared"}


def _purl(model: ModelFacts) -> str:
    """Return the package URL of a model that Hugging Face gave under its own address."""
    if model.is_dataset or not model.url.startswith(_PURL_OF):
        return ""
    return f"pkg:huggingface/{model.repository.name}@{model.revision}"


def _references(files: Iterable[FileEntry]) -> list[str]:
    """Return what each file is referred to by; those of the same bytes have references of their own."""
    seen: dict[str, int] = {}
    references = []
    for entry in files:
        count = seen[entry.sha256] = seen.get(entry.sha256, 0) + 1
        references.append(f"sha256:{entry.sha256}" + (f":{count}" if count > 1 else ""))
    return references


def _component(file: VouchedFile, reference: str) -> dict[str, Any]:
    entry, vouch = file
    return {
        "type": "file",
        "bom-ref": reference,
        "name": entry.path,
        "hashes": [
            {"alg": "SHA-256", "content": entry.sha256},
            {"alg": "BLAKE3", "content": entry.blake3},
        ],
        "properties": _properties(
            size=str(entry.size),
            **{"vouched-by": vouch.by.word, "vouched-digest": vouch.digest},
        ),
    }


def _properties(**values: str) -> list[dict[str, str]]:
    return [
        {"name": f"{_OURS}{name}", "value": value}
        for name, value in sorted(values.items())
        if value
    ]
