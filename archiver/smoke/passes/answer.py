"""One pass of a model: what it makes of an input, in numbers kept small, in 32-bit floats on the CPU."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from archiver.digest import blake3_hex
from archiver.errors import SkippedError
from archiver.smoke.golden.record import RANKED_POSITIONS, TIES_MAX
from archiver.smoke.model import Answer, Floats, Output, Tie

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor
    from torch.utils.hooks import RemovableHandle

    from archiver.smoke.model import Model


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


# ---- the first number that is not finite


class FirstNonFinite:
    """Watches a module's parts while they run; use as a context manager.

    Attributes:
        where: The name of the innermost part that was the first to give a number that is not
            finite; ``""`` if none did.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._handles: list[RemovableHandle] = []
        self.where = ""

    def __enter__(self) -> Self:
        for name, part in self._module.named_modules():
            self._handles.append(part.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def look(_module: Any, _given: Any, output: Any) -> None:
            if not self.where and any(not _finite(tensor) for tensor in _tensors(output)):
                self.where = name or "the whole model"

        return look


def _tensors(output: Any) -> list[Tensor]:
    import torch  # noqa: PLC0415 - of the extra

    several = output if isinstance(output, tuple | list) else [output]
    return [
        value for value in several if isinstance(value, torch.Tensor) and value.is_floating_point()
    ]


def _finite(tensor: Tensor) -> bool:
    return tensor.device.type == "meta" or bool(tensor.isfinite().all())


# ---- choices that hang on rounding
#
# A mixture of experts is no continuous function: where the last expert taken and the first one left are
# apart by less than rounding, another machine takes the other one, and the token goes another way. So
# such choices are written down, and made the same way again when numbers are compared. The weights that
# the experts get are never taken from the record, so a wrong router still gives other numbers.
#
# Every router in transformers that takes several of many does it by ``torch.topk``, so that is watched.


_NEAR: Final = 1e-3
"""A choice is a tie if the last one taken leads by no more than this, in the scores' deviation."""


class Ties:
    """Watches a pass and settles its ties as they were settled before; a context manager.

    Attributes:
        settled: How many ties this model alone would have settled otherwise.
    """

    def __init__(self, before: Sequence[Tie] = ()) -> None:
        self._before: dict[int, list[Tie]] = {}
        for tie in before:
            self._before.setdefault(tie[0], []).append(tie)
        self._found: list[tuple[float, Tie]] = []
        self._choices = 0
        self._mode: Any = None
        self.settled = 0

    def __enter__(self) -> Self:
        self._mode = _watching(self)
        self._mode.__enter__()
        return self

    def __exit__(self, *ended: object) -> None:
        self._mode.__exit__(*ended)

    @property
    def found(self) -> tuple[Tie, ...]:
        """The pass's ties in its order; of too many the closest."""
        closest = [tie for _, tie in sorted(self._found)]
        sizes = accumulate(map(len, closest))
        ties = [tie for tie, size in zip(closest, sizes, strict=True) if size <= TIES_MAX]
        return tuple(sorted(ties))

    def settle(self, scores: Tensor, values: Tensor, ids: Tensor) -> None:
        """Note the ties of one choice, and write those of the record into ``values`` and ``ids``.

        Args:
            scores: n x experts.
            values: n x k, the highest scores of each row.
            ids: n x k, whose they are.
        """
        best = scores.topk(ids.shape[-1] + 1, dim=-1).values
        last, left = best[:, -2], best[:, -1]
        spread = scores.where(scores.isfinite(), last[:, None]).std(dim=-1)
        lead = (last - left) / spread
        for row in (lead <= _NEAR).nonzero().flatten().tolist():
            self._found.append((float(lead[row]), (self._choices, row, *ids[row].tolist())))
        least = last - 2 * _NEAR * spread  # rounding on two machines
        for _, row, *recorded in self._before.get(self._choices, ()):
            if _other_ids(recorded, row, ids, scores):
                theirs = scores[row, recorded]
                if bool((theirs >= least[row]).all()):
                    ids[row], values[row] = ids.new_tensor(recorded), theirs
                    self.settled += 1
        self._choices += 1


def _other_ids(recorded: list[int], row: int, ids: Tensor, scores: Tensor) -> bool:
    """Return whether these could stand in that row of ``ids``, and others do."""
    fits = row < len(ids) and len(recorded) == len(set(recorded)) == ids.shape[-1]
    return fits and max(recorded) < scores.shape[-1] and set(recorded) != set(ids[row].tolist())


def _watching(ties: Ties) -> Any:
    import torch  # noqa: PLC0415 - of the extra
    from torch.overrides import TorchFunctionMode  # noqa: PLC0415 - as above

    class Watching(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, _types: Any, given: Any = (), named: Any = None
        ) -> Any:
            result = function(*given, **(named or {}))
            if function in {torch.topk, torch.Tensor.topk}:
                scores = given[0] if given else named["input"]
                _look(ties, scores, result)
            return result

    return Watching()


def _look(ties: Ties, scores: Tensor, result: Any) -> None:
    """Have a choice along the last dimension settled, if it leaves anything."""
    values, ids = result
    leaves = scores.shape[:-1] == ids.shape[:-1] and ids.shape[-1] < scores.shape[-1]
    if leaves and scores.is_floating_point() and scores.device.type != "meta":
        rows = scores.float().flatten(0, -2) if scores.dim() > 1 else scores.float()[None]
        count = ids.shape[-1]
        # what is written into these views the router gets
        ties.settle(rows, values.view(-1, count), ids.view(-1, count))


# ---- the answer


_ROWS: Final = 32
"""Rows of logits that are turned into 32-bit floats at once: 32 MB for a vocabulary of 248,320."""


def run_pass(
    model: Model, name: str, inputs: dict[str, Tensor], recorded: tuple[Tie, ...] = ()
) -> Answer:
    """Run the model once, without a cache; ``recorded``: how ties were settled before.

    Raises:
        SkippedError: What it gives is of another kind than is known here.
    """
    with FirstNonFinite(model.module) as first, Ties(recorded) as ties:
        output = model(inputs, **_options(model.module))
    rows, kind = _rows(output)
    decoder = inputs.get("decoder_input_ids")
    ids = inputs["input_ids"][0]
    wrong = (~rows.isfinite().all(dim=-1)).nonzero().flatten().tolist()
    nll = _nll(rows, ids if decoder is None else decoder[0]) if _predicts_next(model, kind) else []
    return Answer(
        name=name,
        ids=tuple(ids.tolist()),
        decoder_ids=() if decoder is None else tuple(decoder[0].tolist()),
        output=kind,
        shape=(rows.shape[0], rows.shape[1]),
        tail=_tail(rows, kind),
        nll=np.array(nll, np.float32),
        wrong=tuple(wrong),
        origin=first.where if wrong else "",
        pixels=digest_of_pixels(inputs),
        ties=ties.found,
        settled=ties.settled,
    )


def _options(module: Any) -> dict[str, Any]:
    """Return what to run without a cache: only those who go on have use for one, and it costs memory."""
    return {"use_cache": False} if module.can_generate() else {}


def _rows(output: Any) -> tuple[Tensor, Output]:
    """Return logits or hidden states as n x w."""
    heads = [name for name in output if name.endswith("logits") and output[name] is not None]
    kind: Output = "logits" if heads else "hidden"
    names = ("logits", *heads) if heads else ("last_hidden_state", "pooler_output")
    output_values = next((output[name] for name in names if output.get(name) is not None), None)
    if output_values is None:
        raise SkippedError(
            "It gives neither logits nor hidden states, so there is nothing to judge."
        )
    return output_values.reshape(-1, output_values.shape[-1]), kind


def _predicts_next(model: Model, kind: Output) -> bool:
    return kind == "logits" and model.module.can_generate()


def _tail(rows: Tensor, kind: Output) -> Floats:
    rows_kept = rows[-RANKED_POSITIONS:].float()
    if kind == "hidden":  # as sentence embeddings are made; a single input has no padding
        rows_kept = rows.float().mean(dim=0, keepdim=True)
    tail: Floats = rows_kept.cpu().numpy()
    return tail


def _nll(rows: Tensor, ids: Tensor) -> list[float]:
    from torch.nn.functional import cross_entropy  # noqa: PLC0415 - of the extra

    losses: list[float] = []
    targets = ids[1:].to(rows.device)
    for begin in range(0, len(targets), _ROWS):
        following = targets[begin : begin + _ROWS]
        logits = rows[begin : begin + len(following)].float()
        losses += cross_entropy(logits, following, reduction="none").tolist()
    return losses


def digest_of_pixels(inputs: dict[str, Tensor]) -> str:
    """Return BLAKE3 of the picture's values as bytes; ``""`` if the input has no picture."""
    values = next((value for value in inputs.values() if value.is_floating_point()), None)
    if values is None:
        return ""
    levels = (values.float().cpu() * 127.5 + 127.5).round().clamp(0, 255)
    return blake3_hex(levels.byte().numpy().tobytes())
