"""Whether and how a model fits into this machine's memory, and what its passes will read.

It is found out before anything large is read: counted from shapes, never measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from archiver import memory
from archiver.errors import SkippedError
from archiver.smoke import hardware
from archiver.smoke.hardware import device_memory, resident_memory
from archiver.smoke.loading.layers import recast
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.loading.conversion import Weights
    from archiver.smoke.loading.layers import Layer, Part
    from archiver.smoke.messages import Settings
    from archiver.smoke.model import Dtype, Mode
    from archiver.smoke.session import Session


# ---- what a model takes


@dataclass(frozen=True)
class Needs:
    """What a model takes, in bytes.

    Attributes:
        process: The process as it is now.
        weights: All weights, as they are computed with.
        small: Those that are always in memory.
        layer: The largest layer while it runs.
        making: What making a parameter takes besides.
        activations: What is computed on the way, logits included.
        decoding: Buffers of those who decode.
        packing: The copy of the largest matrix that a kernel may make to multiply with it.
    """

    process: int
    weights: int
    small: int
    layer: int
    making: int
    activations: int
    decoding: int
    packing: int = 0

    @property
    def resident(self) -> int:
        """With all weights in memory."""
        passing = self.activations + self.packing
        return self.process + self.weights + self.making + max(passing, self.decoding)

    @property
    def headroom(self) -> int:
        """What a streamed model takes besides the weights that stay."""
        return self.layer + self.activations + self.decoding

    @property
    def streamed(self) -> int:
        """The least that it can be streamed with."""
        return self.process + self.small + self.headroom


# ---- what may stay while it is streamed


@dataclass
class Budget:
    """What may stay in memory once it is read.

    A forward pass uses all layers in turn, so of what does not fit, the layer that was used longest
    ago is always the next that is needed: to throw out the oldest would never save a read. What
    comes first stays; the rest is read each time.

    Attributes:
        limit: The process's resident memory must stay below so many bytes.
        headroom: Bytes that the largest layer, conversions and activations take while it runs.
        device: Where the weights go.
        ahead: Bytes of the headroom that are for weights that are read before they are needed.
        readers: How many of them are read at once.
    """

    limit: int
    headroom: int
    device: str
    ahead: int = 0
    readers: int = 1
    _full: bool = False

    def stays(self) -> bool:
        """Return whether what was just read, and is in memory now, may stay there."""
        if not self._full and not self._fits():
            memory.trim()
            self._full = not self._fits()
        return not self._full

    def has_room(self, size: int) -> bool:
        """Return whether ``size`` bytes can be had besides what is in memory now."""
        free = device_memory(self.device)
        if free is not None:
            return free >= size
        memory.trim()
        return resident_memory() + size <= self.limit

    def _fits(self) -> bool:
        free = device_memory(self.device)
        if free is not None:
            return free >= self.headroom
        return resident_memory() + self.headroom <= self.limit


# ---- what is read


TOKENS: Final = 160
"""The longest fixed input: about 100 places of an image and a short text."""
NEW_TOKENS: Final[dict[Mode, int]] = {"resident": 8, "streamed": 4}
"""Tokens to generate: of a streamed model fewer, for each of them it is read again."""
_TEXT: Final = 48
"""Tokens of the fixed text, by the tokenizer of Qwen3.5."""
_PICTURE: Final = 88
"""Tokens of the fixed picture with its text."""
_PATCHES: Final = 4
"""Patches of a picture for each of its tokens."""
_SENTENCES: Final = 7
"""Fixed sentences for a model that embeds."""
_SIGHT: Final = re.compile(r"(\A|\.)(visual|vision\w*)\.")
"""How the parts of models are called that only see."""
_GENERATES: Final = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


class Pass(NamedTuple):
    """One run of the model over so many tokens, with or without its vision tower."""

    tokens: int
    sees: bool = False


class Way(NamedTuple):
    """How a model is to be run.

    Attributes:
        mode: Where its weights are to be.
        stored: Bytes of all weights, as they are stored.
        stays: Which share of the weights stays in memory once it is read.
    """

    mode: Mode
    stored: int
    stays: float


def reading_line(config: ModelConfig, layers: Sequence[Layer], way: Way) -> str:
    """Return how much a pass and all passes read, as a sentence."""
    if way.mode == "resident":
        return f"Reading: about {human_bytes(way.stored)}, once."
    sizes = [read_in(layers, run) for run in passes(config, way.mode)]
    size = round(way.stays * max(sizes) + (1 - way.stays) * sum(sizes))
    return (
        f"Reading: about {human_bytes(sizes[0])} for a pass over the text, {human_bytes(size)} "
        f"in all {plural(len(sizes), 'pass', 'passes')} up to generate."
    )


def passes(config: ModelConfig, mode: Mode) -> list[Pass]:
    """Return the passes of levels ``forward`` and ``generate``, the text first."""
    text = [Pass(_TEXT)]
    runs = text + ([Pass(_PICTURE, sees=True)] if config.vision is not None else [])
    if not config.architecture.endswith(_GENERATES):
        return runs + text * _SENTENCES
    runs += [*text, *[Pass(1)] * (NEW_TOKENS[mode] - 1)]
    return runs + (text if mode == "resident" else [])  # there the tokens are compared once more


def read_in(layers: Sequence[Layer], run: Pass) -> int:
    """Return the bytes of weights that a pass uses, as they are stored, if it chooses experts at random."""
    size = 0
    for layer in layers:
        sight = _SIGHT.search(f"{layer.name}.") is not None
        if sight and not run.sees:
            continue
        tokens = run.tokens * _PATCHES if sight else run.tokens
        size += sum(round(part.stored * _share(layer.module, part, tokens)) for part in layer.parts)
    return size


def _share(module: Any, part: Part, tokens: int) -> float:
    """Return which share of a parameter is used, on average."""
    rows = max(part.shape[0], 1) if part.shape else 1
    if part.kind == "rows":
        return min(1.0, tokens / rows)
    if part.kind != "experts":
        return 1.0
    chosen = getattr(getattr(module, "config", None), "num_experts_per_tok", None)
    each = min(1.0, chosen / rows) if isinstance(chosen, int) else 1.0
    return 1 - (1 - each) ** tokens


# ---- the decision


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


def fit(
    session: Session, layers: Sequence[Layer], weights: Weights, device: str, dtype: Dtype
) -> Fit:
    """Decide how to run a model; ``layers`` and ``weights`` are those of its skeleton.

    Raises:
        SkippedError: There is too little memory even to stream it; the message says how much would do.
    """
    limit = memory_limit(session.settings)
    needs, workers = _within(
        _needs(session, layers, weights, dtype), limit, session.settings.workers
    )
    golden = _golden_needs(session, layers, weights, dtype)
    mode, reason = _choose(needs, limit, device, golden)
    lines = (*_memory_lines(session, needs, limit, dtype), f"Mode: {mode}. {reason}")
    ahead = _ahead(needs, limit, layers, workers, device)
    way = Way(
        mode=mode,
        stored=sum(part.stored for part in _distinct(layers, weights)),
        stays=min(1.0, max(0, limit - needs.streamed - ahead) / max(needs.weights, 1)),
    )
    lines += (reading_line(session.config, layers, way), *_golden_lines(golden, limit))
    own = limit - session.settings.beside
    return Fit(mode, reason, own, needs.headroom + ahead, workers, ahead, lines)


def _ahead(needs: Needs, limit: int, layers: Sequence[Layer], workers: int, device: str) -> int:
    """Return the room to read ahead, a piece for each thread: it comes before keeping weights.

    To keep as many bytes would save less: these are saved once a pass, and time for each piece here.
    Reading as it computes, a process uses all that it may, also what it grows by on its first passes.
    """
    pieces = (part for layer in layers for part in layer.parts if not part.small)
    largest = max((part.at_once for part in pieces if part.kind in {"whole", "blocks"}), default=0)
    own = hardware.device_memory(device)
    left = limit - needs.streamed if own is None else own - needs.layer - needs.activations
    return max(0, min(left, limit - needs.streamed - _GROWN, workers * largest))


def _needs(session: Session, layers: Sequence[Layer], weights: Weights, dtype: Dtype) -> Needs:
    parts = _distinct(layers, weights)
    making = max((part.making for part in parts), default=0)
    casts = all(weights.recipe(part.key).plain for part in parts)
    return Needs(
        process=hardware.resident_memory() + session.settings.beside,
        weights=sum(part.size for part in parts),
        small=sum(part.size for layer in layers for part in layer.parts if part.small),
        layer=max((layer.peak for layer in layers), default=0),
        making=making * (_LOADERS if casts else 1),
        activations=_activations(session, dtype),
        decoding=_decoding(session.settings.workers),
        packing=_packing(layers),
    )


def _packing(layers: Sequence[Layer]) -> int:
    """Return what laying a matrix out anew may take (oneDNN does it with 16-bit ones): the largest counts.

    A streamed model's are blocks, or among what making a parameter takes.
    """
    parts = [part for layer in layers for part in layer.parts if part.kind != "rows"]
    each = (part.size * (part.share if part.kind == "experts" else 1) for part in parts)
    return int(max(each, default=0))


def _golden_needs(
    session: Session, layers: Sequence[Layer], weights: Weights, dtype: Dtype
) -> int | None:
    """Return the least that level golden takes, which builds the model in float32; None without one."""
    if dtype == "float32" or not (session.settings.record or session.settings.golden):
        return None
    exact = weights.in_float32()
    needs = _needs(session, recast(layers, exact), exact, "float32")
    needs, _ = _within(needs, 0, session.settings.workers)
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
    """Return the needs with as few threads as fit: each that decodes has buffers of its own."""
    while workers > 1 and min(needs.resident, needs.streamed) > limit:
        workers -= 1
        needs = replace(needs, decoding=_decoding(workers))
    return needs, workers


def parameter_count(layers: Sequence[Layer], weights: Weights) -> int:
    """Return how many numbers a model has, tied ones once."""
    return sum(prod(part.shape) for part in _distinct(layers, weights))


def _distinct(layers: Sequence[Layer], weights: Weights) -> list[Part]:
    """Return each weight once: tied ones are in memory once where all of them are."""
    parts = {weights.origin(part.key): part for layer in layers for part in layer.parts}
    return list(parts.values())


def _activations(session: Session, dtype: Dtype) -> int:
    """Return what is computed on the way: above all the logits, once more as they are looked at."""
    vocabulary = session.config.text.get("vocab_size")
    width = vocabulary if isinstance(vocabulary, int) and vocabulary > 0 else 0
    element = 4 if dtype == "float32" else 2
    return _WORKING + 2 * TOKENS * width * element


def memory_limit(settings: Settings) -> int:
    """Return what the test may hold, its parent counted: what there is less a reserve, or a wish."""
    free = hardware.available_memory()
    reserve = max(256 * MiB, free // 20)
    machine = hardware.resident_memory() + settings.beside + max(0, free - reserve)
    return machine if settings.memory is None else min(settings.memory, machine)


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
    """Return a twentieth more, in whole MB, as it is told: all of it is an estimate."""
    return -(-needed * 21 // 20 // _MB) * _MB


def _memory_lines(session: Session, needs: Needs, limit: int, dtype: Dtype) -> Iterator[str]:
    source = (
        "as asked for" if session.settings.memory is not None else "of what this machine has left"
    )
    yield f"Weights: {human_bytes(needs.weights)} as {dtype}."
    yield f"Activations: about {human_bytes(needs.activations)}, for at most {TOKENS} tokens."
    yield f"Memory: {human_bytes(limit)} {source}; the process has {human_bytes(needs.process)} now."
    yield "Disk: nothing is written but a few small files."
