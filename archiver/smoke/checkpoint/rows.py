"""Many rows of one tensor, such as a text's embeddings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from archiver.codec.segment import SEGMENT_MAX
from archiver.smoke.checkpoint.parallel import run_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.codec.zstd import Bytes
    from archiver.smoke.checkpoint.protocol import Checkpoint, StoredTensor


def read_rows(
    checkpoint: Checkpoint,
    tensor: StoredTensor,
    numbers: Sequence[int],
    out: Bytes,
    *,
    workers: int = 1,
) -> None:
    """Read rows of dimension 0 into ``out``, one after the other; a row may be asked for twice.

    They are read in file order, so that each segment is decoded once, by ``workers`` threads at most.

    Args:
        checkpoint: Whose ``read_tensor`` is asked.
        tensor: One whose rows fill whole bytes.
        numbers: Of the rows, in the order in which they are wanted.
        out: ``len(numbers)`` rows of bytes.
        workers: How many stretches of 16 MiB are read at once.

    Raises:
        IndexError: There is no such row.
        DamageError: One cannot be read as it should be.
    """
    places: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number, []).append(place)
    rows = [tensor.row(number) for number in sorted(places)]
    step = rows[0].size if rows else 0
    if step * len(numbers) != len(out):
        raise ValueError(f"{len(numbers)} rows of {step} bytes do not fill {len(out)}.")

    def read(group: list[StoredTensor]) -> None:
        for row in group:
            first, *others = places[(row.begin - tensor.begin) // step]
            target = out[first * step : (first + 1) * step]
            checkpoint.read_tensor(row, target)
            for other in others:
                out[other * step : (other + 1) * step] = target

    groups = groupby(rows, lambda row: (row.begin - tensor.begin) // SEGMENT_MAX)
    tasks = [partial(read, list(group)) for _, group in groups] if step else []
    with ThreadPoolExecutor(workers) as pool:
        run_all(pool, tasks)
