"""The files of weights: what their headers say, what lies in their place, and tensors of zeros alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke.report import FailedError, Proof
from archiver.tensors.dtypes import BITS
from archiver.tensors.header import HeaderBoundError, HeaderError
from archiver.tensors.weight_files import (
    HEAD,
    INDEX_MAX,
    OTHERS,
    PICKLES,
    SAFETENSORS,
    is_index,
    is_weights,
    owners_of,
    parse_index,
    stand_in,
)
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from archiver.smoke.checkpoint.protocol import Checkpoint, StoredTensor
    from archiver.tensors.header import Header

_ZEROS_FROM: Final = 1 << 20
"""Smaller tensors, such as biases and norms, may well be zeros."""
_NAMED: Final = 5


class Headers(NamedTuple):
    """The headers that are acceptable, by file, and what is wrong with the others."""

    found: Mapping[str, Header]
    findings: tuple[Finding, ...]


def read_headers(checkpoint: Checkpoint) -> Headers:
    """The header of every safetensors file.

    Raises:
        SkippedError: There are weights, but none in safetensors, or a header is beyond what is parsed.
        FailedError: There are no weights, or what is in their place is none.
        DamageError: A file cannot be read as it should be.
    """
    names = [path for path in sorted(checkpoint.files) if path.endswith(SAFETENSORS)]
    if not names and not any(map(is_index, checkpoint.files)):
        raise _no_weights(checkpoint)
    found: dict[str, Header] = {}
    findings = []
    for path in names:
        try:
            header = checkpoint.header(path)
            _require_known_dtypes(header)
            found[path] = header
        except HeaderBoundError as error:
            raise _beyond(path, error) from error
        except HeaderError as error:
            findings.append(_instead(checkpoint, path) or _unreadable(path, error))
    return Headers(found, tuple(findings))


def _require_known_dtypes(header: Header) -> None:
    """Raise HeaderError for a dtype that the library does not know: it refuses the whole file."""
    unknown = {tensor.dtype for tensor in header.tensors} - BITS.keys()
    if unknown:
        named = ", ".join(sorted(unknown)[:_NAMED])
        raise HeaderError(f"It has tensors of a dtype that no library knows: {named[:200]!r}.")


def _beyond(path: str, error: HeaderBoundError) -> SkippedError:
    return SkippedError(
        f"{printable(path)} was not checked: {printable(str(error), 400)}",
        hint="It is more than archiver looks into; a library may load it. The bytes are held all the same.",
    )


def _unreadable(path: str, error: HeaderError) -> Finding:
    hint = "Fetch the file again: no library can load it."
    message = f"{printable(path)} is no acceptable safetensors file: {printable(str(error), 400)}"
    return Finding("model-unreadable", message, path=path, hint=hint)


def _instead(checkpoint: Checkpoint, path: str) -> Finding | None:
    """What lies in the place of a file of weights, if it is known."""
    found = stand_in(path, checkpoint.beginning(path, HEAD), checkpoint.files[path])
    if found is None:
        return None
    message = f"{printable(path)} {found.description}."
    return Finding("model-unreadable", message, path=path, hint=found.hint)


def _no_weights(checkpoint: Checkpoint) -> SkippedError | FailedError:
    """What to say where nothing is in safetensors: what can be seen without opening a pickle."""
    weights = [path for path in sorted(checkpoint.files) if is_weights(path)]
    findings = [found for path in weights if (found := _instead(checkpoint, path))]
    findings += _shards_missing(checkpoint)
    if findings:
        return FailedError(*findings)
    for endings, kind in (
        (PICKLES, "pickles, which are never opened"),
        (OTHERS, "of other formats"),
    ):
        for path in weights:
            if path.endswith(endings):
                return SkippedError(
                    f"The only weights are {kind} ({printable(path)}).",
                    hint="Only weights in safetensors can be tested.",
                )
    return FailedError(Finding("model-tensor-missing", "There is no file of weights."))


def _shards_missing(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Shards that an index of pickles names and that are not there."""
    for path in sorted(checkpoint.files):
        if not is_index(path, pickles=True):
            continue
        try:
            index = parse_index(checkpoint.read(path, INDEX_MAX))
        except ValueError:
            continue  # too large, or no index
        for shard in sorted(set(owners_of(path, index).values()) - set(checkpoint.files))[:_NAMED]:
            message = f"It names {printable(shard)}, which is not there."
            hint = "Fetch the missing file: no library can load the model without."
            yield Finding("model-index", message, path=path, hint=hint)


def check_zeros(checkpoint: Checkpoint, tensors: Iterable[StoredTensor]) -> Proof:
    """One remark on all large tensors that hold nothing but zeros.

    Raises:
        DamageError: A file cannot be read as it should be.
    """
    zeros = checkpoint.zeros(one for one in tensors if one.size > _ZEROS_FROM)
    if not zeros:
        return Proof(())
    named = ", ".join(printable(one.name) for one in zeros[:_NAMED])
    more = ", …" if len(zeros) > _NAMED else ""
    size = human_bytes(sum(one.size for one in zeros))
    hold = "holds" if len(zeros) == 1 else "hold"
    count = plural(len(zeros), "tensor")
    message = f"{count} of more than 1 MiB {hold} nothing but zeros ({size}): {named}{more}."
    hint = "A download that never ended leaves zeros: compare the file with upstream's."
    return Proof((), (Finding("model-tensor-zero", message, path=zeros[0].file, hint=hint),))
