"""The ``total_size`` of an index: the bytes of the tensors, in one of the ways that tools count them.

No loader reads it. What none of these ways gives is that of other files, so it is told:

- the bytes of the tensors as the shards store them: transformers, huggingface_hub, all of Qwen's;
- and those of shared tensors once more for each name that was left out: an index of pickles that was
  kept when these were converted;
- a truth value as a bit: transformers before 4.40 (``dtype_byte_size``);
- the bytes of whole files, with their headers: DeepSeek-V3, and what asks the disk for sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from archiver.tensors.header import Header


def stored_bytes(headers: Collection[Header]) -> int:
    """The bytes of all tensors."""
    return sum(one.end - one.begin for header in headers for one in header.tensors)


def counting_of(total: Any, headers: Collection[Header], shared: int) -> str | None:
    """What ``total`` counts beside the stored bytes, or otherwise; ``""``: nothing; None: in no known way.

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
    """Bytes that hold a truth value each."""
    tensors = (one for header in headers for one in header.tensors)
    return sum(one.end - one.begin for one in tensors if one.dtype == "BOOL")
