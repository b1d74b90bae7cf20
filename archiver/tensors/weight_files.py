"""Files of weights, known by their names; the indexes that list them; what may lie in their place.

An index (``*.safetensors.index.json``, ``*.bin.index.json``) names the file of each tensor, from its own
folder: ``{"metadata": {…}, "weight_map": {TENSOR: FILE}}`` (Hugging Face, "Serialization"). A repository
that was cloned without Git LFS holds *pointers*, texts of three lines; a download that met a login page
or a proxy holds HTML.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from archiver.text import human_bytes, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SAFETENSORS: Final = ".safetensors"
GGUF: Final = ".gguf"
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
OTHERS: Final = (GGUF, ".ggml", ".onnx")
INDEX_MAX: Final = 32 << 20
"""Bytes of an index that is read. That of Qwen3.5-397B-A17B-FP8, 189,042 tensors, has 24 MB."""
_COLONS_MAX: Final = 700_000
"""Each tensor of an index has one; a file may have 320,000 tensors. Looked at before memory is taken."""
_METADATA_MAX: Final = 64 << 10
HEAD: Final = 512
"""So many first bytes of a file show what lies in the place of weights."""

_INDEX: Final = re.compile(r".*\.safetensors\.index(\.[^./]+)?\.json")
_PICKLE_INDEX: Final = re.compile(r".*\.bin\.index(\.[^./]+)?\.json")
_SHARD: Final = re.compile(r"(.*?)-?([0-9]{5})-of-([0-9]{5})(.*)", re.DOTALL)
_SPLIT: Final = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)
_POINTER: Final = (
    b"version https://git-lfs.github.com/spec/v1\n",
    b"version https://hawser.github.com/spec/v1\n",
)
_POINTER_SIZE: Final = re.compile(rb"^size ([0-9]{1,18})$", re.MULTILINE)
_POINTER_MAX: Final = 1024
_HTML: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_ERROR: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml\b|<Error>|\{\s*\"error\"\s*:|Entry not found|Repository not found"
    rb"|Invalid username or password|Access to model|Not Found|Unauthorized|Forbidden)"
)
_ERROR_MAX: Final = 4096


Container = Literal["safetensors", "gguf"]
"""A format of files whose tensors are told apart."""


class Index(msgspec.Struct):
    """An index as it is written: ``weight_map`` gives the shard of each tensor."""

    weight_map: dict[str, str]
    metadata: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def total_size(self) -> Any:
        """What it says of the bytes of all tensors, of whatever type; None if it says nothing."""
        if len(self.metadata) > _METADATA_MAX:
            return None
        metadata = msgspec.json.decode(self.metadata)
        return metadata.get("total_size") if isinstance(metadata, dict) else None


class SplitModel(NamedTuple):
    """A GGUF model in several files, ``PREFIX-00001-of-00003.gguf`` and so on, as llama.cpp splits it.

    ``parts`` are the numbers of those that are there, out of ``total``.
    """

    prefix: str
    total: int
    parts: frozenset[int]

    def present(self) -> list[str]:
        """Return the paths of the parts that are there."""
        return [self._path(number) for number in sorted(self.parts)]

    def missing(self) -> Iterator[str]:
        """Yield the paths of the parts that are not there."""
        for number in range(1, self.total + 1):
            if number not in self.parts:
                yield self._path(number)

    def _path(self, number: int) -> str:
        return f"{self.prefix}-{number:05}-of-{self.total:05}{GGUF}"


class StandIn(msgspec.Struct, frozen=True):
    """What lies in the place of a file; ``size`` is what a pointer says that the file has."""

    kind: Literal["lfs-pointer", "html-page", "error-message"]
    size: int = 0

    @property
    def description(self) -> str:
        """What it is, as the end of a sentence that begins with the file's name."""
        if self.kind == "html-page":
            return "is an HTML page, not weights"
        if self.kind == "error-message":
            return "is a server's error message, not weights"
        return f"is a Git LFS pointer, not the {human_bytes(self.size)} that it stands for"

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.kind != "lfs-pointer":
            return "A login page, a proxy or a refusal came in its place: download the file again."
        return "Run 'git lfs pull' in the clone that it comes from, or download the file again."


def is_weights(path: str) -> bool:
    """Return whether a file is called as files of weights are."""
    return path.endswith((SAFETENSORS, *PICKLES, *OTHERS))


def container_of(path: str) -> Container | None:
    """Return what a file is by its name; None where its tensors are not told apart."""
    if path.endswith(SAFETENSORS):
        return "safetensors"
    return "gguf" if path.endswith(GGUF) else None


def is_index(path: str, *, pickles: bool = False) -> bool:
    """Return whether a file is called as an index of safetensors files is, or also one of pickles."""
    return bool(_INDEX.fullmatch(path) or (pickles and _PICKLE_INDEX.fullmatch(path)))


def parse_index(data: bytes | bytearray) -> Index:
    """Return an index from its bytes; raise ValueError, with the reason, if it is none."""
    if data.count(b":") > _COLONS_MAX:
        raise ValueError("it lists more than any model has tensors")
    try:
        return msgspec.json.decode(data, type=Index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(printable(str(error))) from error


def owners_of(path: str, index: Index) -> dict[str, str]:
    """Return the shard of each tensor, as a path of the repository."""
    folder = posixpath.dirname(path)
    return {name: posixpath.join(folder, shard) for name, shard in index.weight_map.items()}


def shard_sets(paths: Iterable[str]) -> list[frozenset[str]]:
    """Return the files of weights that make one model each, by the numbers in their names."""
    shards: dict[tuple[str, str, str], set[str]] = {}
    for path in paths:
        if is_weights(path) and (shard := _SHARD.fullmatch(path)):
            shards.setdefault((shard[1], shard[3], shard[4]), set()).add(path)
    return [frozenset(members) for members in shards.values()]


def incomplete_splits(paths: Iterable[str]) -> list[SplitModel]:
    """Return the split GGUF models of which a part is not among the files."""
    models: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        split = _SPLIT.fullmatch(path)
        if split and 0 < int(split[2]) <= int(split[3]):
            models.setdefault((split[1], int(split[3])), set()).add(int(split[2]))
    return [
        SplitModel(prefix, total, frozenset(parts))
        for (prefix, total), parts in sorted(models.items())
        if len(parts) < total
    ]


def may_be_stand_in(path: str, size: int) -> bool:
    """Return whether the first bytes of a file can show that it is something else than it should be."""
    return is_weights(path) or size <= _POINTER_MAX


def stand_in(path: str, head: bytes, size: int) -> StandIn | None:
    """Return what lies in the place of a file, by its first bytes, or None.

    A pointer is unmistakable, whatever the file's name. A page or a message is out of place only where
    weights should be.

    Args:
        path: How the file is called.
        head: The first ``HEAD`` bytes, or all if there are fewer.
        size: The bytes of the whole file.
    """
    if head.startswith(_POINTER) and size <= _POINTER_MAX:
        stated = _POINTER_SIZE.search(head)
        if stated is not None:
            return StandIn("lfs-pointer", int(stated[1]))
    if not is_weights(path):
        return None
    if _HTML.match(head):
        return StandIn("html-page")
    return StandIn("error-message") if size <= _ERROR_MAX and _ERROR.match(head) else None
