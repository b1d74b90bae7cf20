"""The safetensors files, and what their headers say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.finding import Finding
from archiver.errors import SkippedError
from archiver.smoke.checkpoint.model_files import SUFFIX, is_index
from archiver.smoke.report import FailedError
from archiver.tensors.header import HeaderError
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.smoke.checkpoint.protocol import Checkpoint
    from archiver.tensors.header import Header

_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_OTHER: Final = (".gguf", ".ggml", ".onnx")


class Headers(NamedTuple):
    """The headers that are acceptable, by file, and what is wrong with the others."""

    found: Mapping[str, Header]
    findings: tuple[Finding, ...]


def read_headers(checkpoint: Checkpoint) -> Headers:
    """The header of every safetensors file.

    Raises:
        SkippedError: There are weights, but none in safetensors.
        FailedError: There are no weights.
        DamageError: A file cannot be read as it should be.
    """
    names = [path for path in sorted(checkpoint.files) if path.endswith(SUFFIX)]
    if not names and not any(map(is_index, checkpoint.files)):
        raise _no_weights(checkpoint)
    found, findings = {}, []
    for path in names:
        try:
            found[path] = checkpoint.header(path)
        except HeaderError as error:
            findings.append(_unreadable(path, error))
    return Headers(found, tuple(findings))


def _unreadable(path: str, error: HeaderError) -> Finding:
    hint = "Fetch the file again: no library can load it."
    message = f"{printable(path)} is no acceptable safetensors file: {printable(str(error), 400)}"
    return Finding("model-unreadable", message, path=path, hint=hint)


def _no_weights(checkpoint: Checkpoint) -> SkippedError | FailedError:
    for endings, kind in (
        (_PICKLES, "pickles, which are never opened"),
        (_OTHER, "of other formats"),
    ):
        for path in sorted(checkpoint.files):
            if path.endswith(endings):
                return SkippedError(
                    f"The only weights are {kind} ({printable(path)}).",
                    hint="Only weights in safetensors can be tested.",
                )
    return FailedError(Finding("model-tensor-missing", "There is no file of weights."))
