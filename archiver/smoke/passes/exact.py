"""32-bit floats that are 32 bits: accelerators would take shorter ones for products."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Products and convolutions in IEEE 754 binary32; torch's default for convolutions is TF32."""
    from torch import backends  # noqa: PLC0415 - of the extra

    known: Any = backends  # torch's types lack what is set here
    places = (known.cuda.matmul, known.cudnn.conv, known.cudnn.rnn)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
