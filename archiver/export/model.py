"""What a paper may say of a model or dataset: what its manifest, ``config.json`` and card say, and no more.

``config.json`` and the card (``README.md``) are files of the snapshot and are read out of its packs. All
three are upstream's words, bounded. What is not said there is not guessed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.archive.manifests import tensors_of
from archiver.archive.vouching import HUBS, MODELSCOPE
from archiver.errors import DamageError
from archiver.export.licences import Licence, licences_of
from archiver.export.text import address, moment, plain, plain_texts
from archiver.front_matter import README, README_MAX, parse_card
from archiver.names import DATASET, RepositoryName
from archiver.tensors.weight_files import is_weights, shard_sets

if TYPE_CHECKING:
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.records import FileEntry, Manifest, Source

CONFIG: Final = "config.json"
CONFIG_MAX: Final = 1 << 20
"""Bytes of a ``config.json`` that is read; a larger one says nothing. Real ones have up to 300 KB."""
LISTED_MAX: Final = 32
"""Datasets, base models and the like."""
_DTYPES: Final = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "float64": "fp64",
    "BF16": "bf16",
    "F16": "fp16",
    "F32": "fp32",
    "F64": "fp64",
}
"""How the words of ``config.json``, and of tensors, are written in papers."""
_BUFFERS: Final = frozenset({"I64", "U64", "BOOL"})
"""Types of what a model keeps beside its parameters, such as the numbers of positions."""
_FORMATS: Final = {
    ".safetensors": "safetensors",
    ".gguf": "gguf",
    ".onnx": "onnx",
    ".bin": "pytorch",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".ckpt": "pytorch",
}


class ModelFacts(msgspec.Struct, frozen=True):
    """What is known; what is not is empty, or 0.

    Attributes:
        repository: Where it comes from, what it is, its name.
        revision: The commit, or what stands for one.
        url: Where its hub shows this revision.
        committed: When it was committed, as the format writes times.
        licences: Those that the card declares, or that the hub named.
        architecture: The class that ``config.json`` names.
        family: The type of model that it names.
        precision: The type of its numbers, such as ``bf16``.
        quantization: The method that ``config.json`` names.
        format: What all its weights are written in, such as ``safetensors``.
        parameters: How many numbers its tensors hold, where that is clear: one model, not quantized.
        task: What the card says that it does.
        datasets: What the card says that it was trained on.
        base_models: What the card says that it was made from.
    """

    repository: RepositoryName
    revision: str
    url: str = ""
    committed: str = ""
    licences: tuple[Licence, ...] = ()
    architecture: str = ""
    family: str = ""
    precision: str = ""
    quantization: str = ""
    format: str = ""
    parameters: int = 0
    task: str = ""
    datasets: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()

    @property
    def organisation(self) -> str:
        """Whose it is, or ``""``."""
        return self.repository.name.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Its name without that."""
        return self.repository.name.rpartition("/")[2]

    @property
    def is_dataset(self) -> bool:
        """Whether it is a dataset and no model."""
        return self.repository.type == DATASET


def model_facts(manifest: Manifest, packs: ObjectIndex) -> ModelFacts:
    """Return what is known of a snapshot's model; raise DamageError if a file that tells it is damaged."""
    source = manifest.source
    repository = RepositoryName.parse(source.repository)
    config = _config(manifest, packs)
    card = parse_card(_content(manifest.file(README), packs, README_MAX)).fields or source.card
    inner = config.get("text_config")
    texts = [config, inner if isinstance(inner, dict) else {}]
    quantization = next(
        filter(None, (_method(each.get("quantization_config")) for each in texts)), ""
    )
    return ModelFacts(
        repository=repository,
        revision=source.revision,
        url=_url(source, repository),
        committed=moment(source.committed),
        licences=licences_of(card, source.licence),
        architecture=next(iter(plain_texts(config.get("architectures"), 1)), ""),
        family=plain(config.get("model_type")),
        precision=_precision(manifest, texts),
        quantization=quantization,
        format=_format(manifest),
        parameters=0 if quantization else _parameters(manifest),
        task=plain(card.get("pipeline_tag")),
        datasets=plain_texts(card.get("datasets"), LISTED_MAX),
        base_models=plain_texts(card.get("base_model"), LISTED_MAX),
    )


def _content(entry: FileEntry | None, packs: ObjectIndex, most: int) -> bytes:
    """Return a small file out of its packs; nothing if there is none, or it is too large."""
    if entry is None or not 0 < entry.size <= most:
        return b""
    import numpy as np  # noqa: PLC0415 - what only names papers need not wait for arrays

    out = np.empty(entry.size, np.uint8)
    at = 0
    for size, digest in entry.segments:
        try:
            packs.read(digest, size, out[at : at + size])
        except DamageError as error:
            error.message = f"{entry.path} cannot be read: {error.message}"
            raise
        at += size
    return out.tobytes()


def _config(manifest: Manifest, packs: ObjectIndex) -> dict[str, Any]:
    try:
        config = msgspec.json.decode(_content(manifest.file(CONFIG), packs, CONFIG_MAX))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _method(quantization: Any) -> str:
    return plain(quantization.get("quant_method")) if isinstance(quantization, dict) else ""


def _url(source: Source, repository: RepositoryName) -> str:
    """Return where the hub shows the revision, as far as it was a hub that was asked."""
    if source.upstream not in HUBS:
        return ""
    if repository.hub == MODELSCOPE:
        kind = "datasets" if repository.type == DATASET else "models"
        return address(f"{source.endpoint}/{kind}/{repository.name}")
    kind = "datasets/" if repository.type == DATASET else ""
    return address(f"{source.endpoint}/{kind}{repository.name}/tree/{source.revision}")


def _format(manifest: Manifest) -> str:
    """Return what the weights are written in; ``""`` if there are none, or in more than one way."""
    formats = {
        _FORMATS.get(f".{entry.path.rpartition('.')[2]}", "")
        for entry in manifest.files
        if is_weights(entry.path)
    }
    return formats.pop() if len(formats) == 1 else ""


def _one_model(manifest: Manifest) -> list[FileEntry]:
    """Return the files whose tensors make one model; none where there may be several."""
    files = [entry for entry in manifest.files if tensors_of(entry)]
    paths = frozenset(entry.path for entry in files)
    return files if len(files) == 1 or paths in shard_sets(paths) else []


def _parameters(manifest: Manifest) -> int:
    count = 0
    names: set[str] = set()
    for entry in _one_model(manifest):
        for tensor in tensors_of(entry):
            if tensor.dtype in _BUFFERS:
                continue
            if tensor.name in names or (_is_packed(entry) and tensor.dtype not in _DTYPES):
                return 0
            names.add(tensor.name)
            count += math.prod(tensor.shape)
    return count


def _is_packed(entry: FileEntry) -> bool:
    """Return whether tensors of whole numbers may hold several weights in each: not in GGUF."""
    return entry.container is msgspec.UNSET


def _precision(manifest: Manifest, texts: list[dict[str, Any]]) -> str:
    """Return what ``config.json`` says, or else the one type that all tensors have."""
    for config in texts:
        for key in ("dtype", "torch_dtype"):
            word = plain(config.get(key)).removeprefix("torch.")
            if word:
                return _DTYPES.get(word, word)
    dtypes = {tensor.dtype for entry in _one_model(manifest) for tensor in tensors_of(entry)}
    dtypes -= _BUFFERS
    return _DTYPES.get(dtypes.pop(), "") if len(dtypes) == 1 else ""
