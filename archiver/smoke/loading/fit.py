"""Whether and how a model fits into this machine's memory, found before anything large is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Final

from archiver.errors import SkippedError
from archiver.smoke import hardware
from archiver.smoke.loading.forecast import TOKENS, Way, reading_line
from archiver.smoke.loading.layers import recast
from archiver.smoke.loading.needs import Needs
from archiver.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.smoke.loading.conversion import Weights
    from archiver.smoke.loading.layers import Layer, Part
    from archiver.smoke.messages import Wishes
    from archiver.smoke.model import Dtype, Mode
    from archiver.smoke.trial import Trial

MiB: Final = 1 << 20
_MB: Final = 10**6
_WORKING: Final = 32 * MiB
"""What the layers themselves compute with, and what libraries allocate on first use."""
_GROWN: Final = 112 * MiB
"""By how much the process has grown once it ran a model: 95 MB were measured, kernels above all."""
_DECODING: Final = 72 * MiB
"""What decoding keeps: two decoded segments of 16 MiB, and what lies idle between other blocks."""
_DECODING_EACH: Final = 36 * MiB
"""What each decoding thread needs besides."""
_LOADERS: Final = 4
"""Threads of transformers' loader: ``core_model_loading.GLOBAL_WORKERS`` is at most that."""


@dataclass(frozen=True)
class Fit:
    """How a model is to be run.

    Attributes:
        mode: Where its weights are to be.
        reason: Why, in a sentence.
        limit: The process's resident memory must stay below so many bytes.
        headroom: Bytes that the largest layer, decoding, activations and what is read ahead take while
            a streamed model runs.
        workers: Threads that are to decode.
        ahead: Bytes of the headroom that are for weights that are read before they are needed.
        lines: All this for people.
    """

    mode: Mode
    reason: str
    limit: int
    headroom: int
    workers: int
    ahead: int
    lines: tuple[str, ...]


def fit(trial: Trial, layers: Sequence[Layer], weights: Weights, device: str, dtype: Dtype) -> Fit:
    """Decide how to run a model; ``layers`` and ``weights`` are those of its skeleton.

    Raises:
        SkippedError: There is too little memory even to stream it; the message says how much would do.
    """
    limit = memory_limit(trial.wishes)
    needs, workers = _within(_needs(trial, layers, weights, dtype), limit, trial.wishes.workers)
    golden = _golden_needs(trial, layers, weights, dtype)
    mode, reason = _choose(needs, limit, device, golden)
    lines = (*_memory_lines(trial, needs, limit, dtype), f"Mode: {mode}. {reason}")
    ahead = _ahead(needs, limit, layers, workers, device)
    way = Way(
        mode=mode,
        stored=sum(part.stored for part in _distinct(layers, weights)),
        stays=min(1.0, max(0, limit - needs.streamed - ahead) / max(needs.weights, 1)),
    )
    lines += (reading_line(trial.config, layers, way), *_golden_lines(golden, limit))
    own = limit - trial.wishes.beside
    return Fit(mode, reason, own, needs.headroom + ahead, workers, ahead, lines)


def _ahead(needs: Needs, limit: int, layers: Sequence[Layer], workers: int, device: str) -> int:
    """Room to read ahead, one piece for each thread: of what is left it comes before keeping weights.

    To keep as many bytes would save less: these are saved once a pass, and time for each piece here.
    Reading as it computes, a process uses all that it may, also what it grows by on its first passes.
    """
    pieces = (part for layer in layers for part in layer.parts if not part.small)
    largest = max((one.at_once for one in pieces if one.kind in {"whole", "blocks"}), default=0)
    own = hardware.device_memory(device)
    left = limit - needs.streamed if own is None else own - needs.layer - needs.activations
    return max(0, min(left, limit - needs.streamed - _GROWN, workers * largest))


def _needs(trial: Trial, layers: Sequence[Layer], weights: Weights, dtype: Dtype) -> Needs:
    parts = _distinct(layers, weights)
    making = max((part.making for part in parts), default=0)
    casts = all(weights.recipe(part.key).plain for part in parts)
    return Needs(
        process=hardware.resident_memory() + trial.wishes.beside,
        weights=sum(part.size for part in parts),
        small=sum(part.size for layer in layers for part in layer.parts if part.small),
        layer=max((layer.peak for layer in layers), default=0),
        making=making * (_LOADERS if casts else 1),
        activations=_activations(trial, dtype),
        decoding=_decoding(trial.wishes.workers),
        packing=_packing(layers),
    )


def _packing(layers: Sequence[Layer]) -> int:
    """A kernel may lay a matrix out anew before it multiplies (oneDNN, 16-bit): the largest counts.

    A streamed model's are blocks, or among what making a parameter takes.
    """
    parts = [part for layer in layers for part in layer.parts if part.kind != "rows"]
    each = (part.size * (part.share if part.kind == "experts" else 1) for part in parts)
    return int(max(each, default=0))


def _golden_needs(
    trial: Trial, layers: Sequence[Layer], weights: Weights, dtype: Dtype
) -> int | None:
    """The least that level golden takes, which builds the model anew in float32; None if that is over."""
    if dtype == "float32" or not (trial.wishes.record or trial.wishes.golden):
        return None
    exact = weights.in_float32()
    needs = _needs(trial, recast(layers, exact), exact, "float32")
    needs, _ = _within(needs, 0, trial.wishes.workers)
    return min(needs.resident, needs.streamed) + _GROWN


def _golden_lines(golden: int | None, limit: int) -> Iterator[str]:
    if golden is not None and golden > limit:
        yield (
            f"Golden: it computes in float32, and {human_bytes(limit)} are too little for that; "
            f"about {human_bytes(_enough(golden))} would do."
        )


def _decoding(workers: int) -> int:
    return _DECODING + _DECODING_EACH * workers


def _within(needs: Needs, limit: int, workers: int) -> tuple[Needs, int]:
    """Where memory is short fewer threads decode: each has buffers of its own."""
    while workers > 1 and min(needs.resident, needs.streamed) > limit:
        workers -= 1
        needs = replace(needs, decoding=_decoding(workers))
    return needs, workers


def parameter_count(layers: Sequence[Layer], weights: Weights) -> int:
    """How many numbers a model has, tied ones once."""
    return sum(prod(part.shape) for part in _distinct(layers, weights))


def _distinct(layers: Sequence[Layer], weights: Weights) -> list[Part]:
    """Each weight once: tied ones are in memory once where all of them are."""
    found = {weights.origin(part.key): part for layer in layers for part in layer.parts}
    return list(found.values())


def _activations(trial: Trial, dtype: Dtype) -> int:
    """Above all the logits, of all positions and once more as they are looked at."""
    vocabulary = trial.config.text.get("vocab_size")
    width = vocabulary if isinstance(vocabulary, int) and vocabulary > 0 else 0
    element = 4 if dtype == "float32" else 2
    return _WORKING + 2 * TOKENS * width * element


def memory_limit(wishes: Wishes) -> int:
    """Return what the test may hold, its parent counted: what there is less a reserve, or a wish."""
    free = hardware.available_memory()
    reserve = max(256 * MiB, free // 20)
    machine = hardware.resident_memory() + wishes.beside + max(0, free - reserve)
    return machine if wishes.memory is None else min(wishes.memory, machine)


def _choose(needs: Needs, limit: int, device: str, golden: int | None = None) -> tuple[Mode, str]:
    own = hardware.device_memory(device)
    if own is not None and needs.weights + needs.activations > own:
        return "streamed", f"The weights do not fit into the {human_bytes(own)} free on {device}."
    if needs.resident <= limit:
        return (
            "resident",
            f"All weights fit: {human_bytes(needs.resident)} of {human_bytes(limit)}.",
        )
    if needs.streamed <= limit:
        total = human_bytes(needs.resident)
        return "streamed", f"All at once they need {total}; {human_bytes(limit)} may be used."
    raise _too_little(max(needs.streamed, golden or 0), limit)


def _too_little(needed: int, limit: int) -> SkippedError:
    enough = _enough(needed)
    return SkippedError(
        f"{human_bytes(limit)} of memory are too little even to stream this model; "
        f"about {human_bytes(enough)} would do.",
        hint=f"Free some memory, or ask for --memory {enough // _MB}MB.",
    )


def _enough(needed: int) -> int:
    """A twentieth more, in whole MB, as it is told: all of it is an estimate."""
    return -(-needed * 21 // 20 // _MB) * _MB


def _memory_lines(trial: Trial, needs: Needs, limit: int, dtype: Dtype) -> Iterator[str]:
    asked = "as asked for" if trial.wishes.memory is not None else "of what this machine has left"
    yield f"Weights: {human_bytes(needs.weights)} as {dtype}."
    yield f"Activations: about {human_bytes(needs.activations)}, for at most {TOKENS} tokens."
    yield f"Memory: {human_bytes(limit)} {asked}; the process has {human_bytes(needs.process)} now."
    yield "Disk: nothing is written but a few small files."
