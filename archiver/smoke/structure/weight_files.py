"""The files of weights and their indexes: sound headers that agree with each other; tensors of zeros.

Format of an index: ``{"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: SHARD}}``, the shards
named from the index's own folder (Hugging Face, "Serialization"). Shards are known by it alone, not by a
pattern.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke.report import FailedError, Proof, shortened
from archiver.smoke.structure.layers import EMBEDDINGS, LM_HEAD
from archiver.tensors.dtypes import BITS
from archiver.tensors.gguf import read_gguf
from archiver.tensors.header import CutOffError, HeaderBoundError, HeaderError
from archiver.tensors.weight_files import (
    GGUF,
    HEAD,
    INDEX_MAX,
    OTHERS,
    PICKLES,
    SAFETENSORS,
    incomplete_splits,
    is_index,
    is_weights,
    owners_of,
    parse_index,
    stand_in,
)
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from archiver.smoke.checkpoint.files import Checkpoint, Indexes, StoredTensor
    from archiver.tensors.header import Header
    from archiver.tensors.weight_files import Index


# ---- headers


_ZEROS_FROM: Final = 1 << 20
"""Smaller tensors, such as biases and norms, may well be zeros."""
_NAMED: Final = 5


class Headers(NamedTuple):
    """The headers that are acceptable, by file, and what is wrong with the others."""

    sound: Mapping[str, Header]
    findings: tuple[Finding, ...]


def read_headers(checkpoint: Checkpoint) -> Headers:
    """Return the header of every safetensors file.

    Raises:
        SkippedError: There are weights, but none in safetensors, or a header is beyond what is parsed.
        FailedError: There are no weights, or what is in their place is none.
        DamageError: A file cannot be read as it should be.
    """
    names = [path for path in sorted(checkpoint.files) if path.endswith(SAFETENSORS)]
    if not names and not any(map(is_index, checkpoint.files)):
        raise _no_weights(checkpoint)
    headers: dict[str, Header] = {}
    findings = []
    for path in names:
        try:
            header = checkpoint.header(path)
            _require_known_dtypes(header)
            headers[path] = header
        except HeaderBoundError as error:
            raise _beyond(path, error) from error
        except HeaderError as error:
            findings.append(_instead(checkpoint, path) or _unreadable(path, error))
    return Headers(headers, tuple(findings))


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
    """Return what lies in the place of a file of weights, if it is known."""
    description = stand_in(path, checkpoint.beginning(path, HEAD), checkpoint.files[path])
    if description is None:
        return None
    message = f"{printable(path)} {description.description}."
    return Finding("model-unreadable", message, path=path, hint=description.hint)


def _no_weights(checkpoint: Checkpoint) -> SkippedError | FailedError:
    """Return what to say where nothing is in safetensors: what can be seen without opening a pickle."""
    weights = [path for path in sorted(checkpoint.files) if is_weights(path)]
    findings = [finding for path in weights if (finding := _instead(checkpoint, path))]
    findings += _shards_missing(checkpoint)
    findings += _broken_gguf(checkpoint)
    if findings:
        return FailedError(*findings)
    for endings, kind in (
        (PICKLES, "pickles, which are never opened"),
        (GGUF, "GGUF files, which transformers does not run"),
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
    """Yield shards that an index of pickles names and that are not there."""
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


def _broken_gguf(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Yield the GGUF files that are cut off, and the split models of which parts are not there."""
    for path, size in sorted(checkpoint.files.items()):
        if not path.endswith(GGUF) or _instead(checkpoint, path):
            continue
        try:
            read_gguf(partial(checkpoint.beginning, path), size)
        except CutOffError as error:
            hint = "Fetch the file again: no program can load it."
            yield Finding("model-unreadable", f"{printable(path)}: {error}", path=path, hint=hint)
        except HeaderError:
            continue  # of a version or with a type that is not known here
    for model in incomplete_splits(checkpoint.files)[:_NAMED]:
        names = ", ".join(map(printable, islice(model.missing(), _NAMED)))
        count = model.total - len(model.parts)
        message = f"{count:,} of its {plural(model.total, 'part')} are not there: {names}"
        message += ", …" if count > _NAMED else "."
        hint = "Fetch the missing files: no program can load the model without."
        yield Finding("model-index", message, path=model.present()[0], hint=hint)


def check_zeros(checkpoint: Checkpoint, tensors: Iterable[StoredTensor]) -> Proof:
    """Return one remark on all large tensors that hold nothing but zeros.

    Raises:
        DamageError: A file cannot be read as it should be.
    """
    zeros = checkpoint.zeros(tensor for tensor in tensors if tensor.size > _ZEROS_FROM)
    if not zeros:
        return Proof(())
    named = ", ".join(printable(tensor.name) for tensor in zeros[:_NAMED])
    more = ", …" if len(zeros) > _NAMED else ""
    size = human_bytes(sum(tensor.size for tensor in zeros))
    hold = "holds" if len(zeros) == 1 else "hold"
    count = plural(len(zeros), "tensor")
    message = f"{count} of more than 1 MiB {hold} nothing but zeros ({size}): {named}{more}."
    hint = "A download that never ended leaves zeros: compare the file with upstream's."
    return Proof((), (Finding("model-tensor-zero", message, path=zeros[0].file, hint=hint),))


# ---- tensors that are stored under another name


def shared_tensors(headers: Collection[Header], *, tied: bool) -> dict[str, int]:
    """Return names that no shard has although they stand for a tensor, with its size in bytes.

    A header's ``__metadata__`` gives the name that was kept for each that was left out (safetensors'
    ``save_model``, and the converter of pickles on the Hub). ``tied`` says that the head is the
    embedding, as the config has it.
    """
    sizes = {
        tensor.name: tensor.end - tensor.begin for header in headers for tensor in header.tensors
    }
    names = {name: kept_name for header in headers for name, kept_name in header.metadata.items()}
    embedding = next((number for number in EMBEDDINGS if number in sizes), None)
    if tied and embedding is not None:
        names[LM_HEAD] = embedding
    return {
        name: sizes[stored]
        for name, stored in names.items()
        if stored in sizes and name not in sizes
    }


# ---- the total size
#
# No loader reads it. What none of these ways gives is that of other files, so it is told:
#
# - the bytes of the tensors as the shards store them: transformers, huggingface_hub, all of Qwen's;
# - and those of shared tensors once more for each name that was left out: an index of pickles that was
#   kept when these were converted;
# - a truth value as a bit: transformers before 4.40 (``dtype_byte_size``);
# - the bytes of whole files, with their headers: DeepSeek-V3, and what asks the disk for sizes.


def stored_bytes(headers: Collection[Header]) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.end - tensor.begin for header in headers for tensor in header.tensors)


def counting_of(total: Any, headers: Collection[Header], shared: int) -> str | None:
    """Return what ``total`` counts beside the stored bytes, or otherwise; ``""``: nothing; None: unknown.

    Args:
        total: What the index says, of whatever type.
        headers: Those of all of its shards.
        shared: Bytes of the tensors that are stored under another name alone.
    """
    stored = stored_bytes(headers)
    ways = (
        (stored, ""),
        (stored + shared, "shared tensors once for each of their names"),
        (stored - _truths(headers) * 7 / 8, "truth values as bits"),
        (stored + sum(header.size for header in headers), "whole files, with their headers"),
    )
    return next((way for count, way in ways if count == total), None)


def _truths(headers: Collection[Header]) -> int:
    """Return bytes that hold a truth value each."""
    tensors = (tensor for header in headers for tensor in header.tensors)
    return sum(tensor.end - tensor.begin for tensor in tensors if tensor.dtype == "BOOL")


# ---- indexes
#
# Format: ``{"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: SHARD}}``, the shards named from
# the index's own folder (Hugging Face, "Serialization"). Shards are known by it alone, not by a pattern.


_INDEX_HINT: Final = (
    "Compare the index and the shards with upstream's; one of them is not of this model."
)


@dataclass(frozen=True)
class _Listed:
    """An index, and the headers of its shards as far as they are acceptable."""

    path: str
    index: Index
    there: Mapping[str, Header]
    tied: bool

    @cached_property
    def owners(self) -> dict[str, str]:
        """The shard of each tensor, as the index has it."""
        return owners_of(self.path, self.index)

    @cached_property
    def holders(self) -> dict[str, list[str]]:
        """Which shards have a tensor."""
        holders: dict[str, list[str]] = {}
        for shard, header in self.there.items():
            for tensor in header.tensors:
                holders.setdefault(tensor.name, []).append(shard)
        return holders

    @cached_property
    def shared(self) -> dict[str, int]:
        """Names that stand for a stored tensor, with its size in bytes."""
        return shared_tensors(self.there.values(), tied=self.tied)

    def finding(self, message: str, tensor: str = "") -> Finding:
        return Finding("model-index", message, path=self.path, tensor=tensor, hint=_INDEX_HINT)


def check_indexes(
    indexes: Indexes, files: Collection[str], headers: Mapping[str, Header], *, tied: bool
) -> Proof:
    """Check every index against the headers of its shards.

    Args:
        indexes: All there are.
        files: The paths of all files.
        headers: The acceptable ones by path; the others have a finding of their own.
        tied: Whether the head is the embedding, as the config says.
    """
    proofs = [_checked(path, index, files, headers, tied=tied) for path, index in indexes.items()]
    findings = tuple(finding for proof in proofs for finding in proof.findings)
    proved = dict.fromkeys(sentence for proof in proofs for sentence in proof.proved)
    return Proof(() if findings else tuple(proved), findings)


def _checked(
    path: str,
    index: Index | str,
    files: Collection[str],
    headers: Mapping[str, Header],
    *,
    tied: bool,
) -> Proof:
    if isinstance(index, str):
        message = f"{printable(path)} {index}."
        return Proof((), (Finding("model-index", message, path=path, hint=_INDEX_HINT),))
    shards = sorted(set(owners_of(path, index).values()))
    there = {shard: headers[shard] for shard in shards if shard in headers}
    listed = _Listed(path, index, there, tied)
    findings = tuple(_compared(listed, files))
    if len(there) < len(shards):
        return Proof((), findings)
    total = _total(listed)
    return Proof(total.proved, (*findings, *total.findings))


def _compared(listed: _Listed, files: Collection[str]) -> Iterator[Finding]:
    yield from shortened(_gone(listed, files))
    yield from shortened(_misplaced(listed))
    yield from shortened(_unlisted(listed))
    yield from shortened(_doubled(listed))


def _gone(listed: _Listed, files: Collection[str]) -> Iterator[Finding]:
    for shard, count in sorted(Counter(listed.owners.values()).items()):
        if shard not in files:
            tensors = plural(count, "tensor")
            yield listed.finding(f"It lists {tensors} in {printable(shard)}, which is not there.")


def _misplaced(listed: _Listed) -> Iterator[Finding]:
    for name, shard in listed.owners.items():
        inside = listed.holders.get(name, ())
        if shard in listed.there and shard not in inside and name not in listed.shared:
            truth = f"it is in {printable(inside[0])}" if inside else "no shard has it"
            yield listed.finding(f"It lists the tensor in {printable(shard)}; {truth}.", name)


def _unlisted(listed: _Listed) -> Iterator[Finding]:
    for shard, header in listed.there.items():
        for tensor in header.tensors:
            if tensor.name not in listed.owners:
                message = f"{printable(shard)} has a tensor that the index does not list."
                yield listed.finding(message, tensor.name)


def _doubled(listed: _Listed) -> Iterator[Finding]:
    for name, shards in listed.holders.items():
        if len(shards) > 1:
            where = " and in ".join(map(printable, shards[:2]))
            yield listed.finding(f"The tensor is in {where}.", name)


def _total(listed: _Listed) -> Proof:
    total = listed.index.total_size
    headers = listed.there.values()
    way = "" if total is None else counting_of(total, headers, sum(listed.shared.values()))
    if way is None:
        said, size = printable(str(total), 40), stored_bytes(headers)
        message = f"Its total_size is {said}; the tensors have {size} bytes."
        return Proof((), (listed.finding(message),))
    counting = f", but its total_size counts {way}" if way else ""
    return Proof((f"the index agrees with the headers{counting}",))
