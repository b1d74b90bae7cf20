"""What ``config.json`` says of a model: parsed, bounded, and no number too large to be true."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke.checkpoint.files import SUFFIX
from archiver.smoke.report import FailedError
from archiver.text import human_bytes, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.smoke.checkpoint.files import Checkpoint, StoredTensor


CONFIG: Final = "config.json"
_ADAPTER: Final = "adapter_config.json"
_ADAPTERS: Final = "adapter_"
"""How the weights of an adapter are called, by PEFT."""
_MISTRAL: Final = "params.json"
_ADAPTER_BYTES: Final = 1 << 20
_SHOWN: Final = 3


def _require_model(checkpoint: Checkpoint) -> None:
    """Refuse what cannot be tested as one model.

    Raises:
        SkippedError: It is an adapter, made of several models, or in Mistral's own layout.
        DamageError: A file cannot be read as it should be.
    """
    weights = [path for path in checkpoint.files if path.endswith(SUFFIX)]
    top = [path for path in weights if "/" not in path]
    if _ADAPTER in checkpoint.files and top and all(path.startswith(_ADAPTERS) for path in top):
        raise _adapter(checkpoint)
    if CONFIG in checkpoint.files:
        return
    folders = sorted({posixpath.dirname(path) for path in weights if not top})
    models = [number for number in folders if f"{number}/{CONFIG}" in checkpoint.files]
    if models:
        raise _several(models)
    if _MISTRAL in checkpoint.files:
        message = (
            f"It is in Mistral's own layout ({_MISTRAL}, no {CONFIG}): transformers has no class."
        )
        raise SkippedError(message)


def _adapter(checkpoint: Checkpoint) -> SkippedError:
    base = _base(checkpoint)
    of = f" for {printable(base, 100)}" if isinstance(base, str) and base else ""
    return SkippedError(
        f"It is an adapter{of} ({_ADAPTER}), no model by itself.",
        hint="Its headers were looked at; test the model that it is for.",
    )


def _base(checkpoint: Checkpoint) -> Any:
    """Return the model that an adapter says it is for; None if it says nothing."""
    try:
        settings = json.loads(checkpoint.read(_ADAPTER, _ADAPTER_BYTES))
    except (ValueError, RecursionError):
        return None
    return settings.get("base_model_name_or_path") if isinstance(settings, dict) else None


def _several(models: list[str]) -> SkippedError:
    listed = ", ".join(printable(f"{folder}/") for folder in models[:_SHOWN])
    more = ", …" if len(models) > _SHOWN else ""
    return SkippedError(
        f"There is no {CONFIG}; models lie in folders of their own: {listed}{more}.",
        hint=f"Restore it, and test each by itself: archiver smoke-test DIR/{printable(models[0])}",
    )


# ---- what the file says


_MOST_BYTES: Final = 16 * 1024 * 1024
"""Real ones have a few kilobytes; the longest, which list the modules that FP8 left alone, 300."""
_MOST_DEPTH: Final = 32
"""The libraries walk it by recursion; real ones are six levels deep."""
_HINT: Final = "Compare the file with upstream's; without a right one nothing can be built."

# Nothing is built of none of these; the libraries divide by some of them, and take 0 for "all" of others.
_NEEDED: Final = re.compile(
    r"num_hidden_layers|n_layers?|depths?"
    r"|hidden_size|hidden_dim|embed_dim|d_model|n_embd|out_hidden_size|intermediate_size"
    r"|(num_|n_)?(attention_|key_value_|linear_key_|linear_value_)?heads?"
    r"|(linear_key_|linear_value_|v_|qk_)?head_dim|linear_conv_kernel_dim"
    r"|num_experts_per_tok|full_attention_interval"
    r"|vocab_size|max_position_embeddings|num_position_embeddings|n_positions"
    r"|image_size|(temporal_)?patch_size|spatial_merge_size|in_channels|num_channels"
    r"|bits|group_size|weight_block_size"
)
_ALL: Final = -1
"""What GPTQ and its like write as the size of a group that is as large as the matrix."""
_BASE: Final = re.compile(r"rope_theta|rotary_emb_base")
"""What rotary frequencies are powers of."""
_NAMED: Final = frozenset({"label2id", "id2label"})
"""Their keys are anybody's words."""

# A count makes that many modules, whatever device they are made on, so it costs time and memory
# before a single tensor is looked at. A layer has tensors of its own; where layers share them, as
# in ALBERT, there are some tens of layers. So no true count is above the number of tensors and 1000.
_COUNT: Final = re.compile(r"(layers?|depths?|blocks|stages|groups)\Z")
_COUNTS_AT_LEAST: Final = 1000
# Experts are counted by a router's dimension as well.
_EXPERTS: Final = re.compile(r"experts\Z")
# A width is the dimension of some tensor, or a small multiple of one (heads that lie side by side);
# what else is called a size (of an image, a window, a chunk) is far below a million. The libraries
# make tables of some sizes (positions, rotations) in true memory.
_WIDTH: Final = re.compile(
    r"(_sizes?|_dims?|_width|heads?|channels|hidden|d_model|d_ff|d_kv|n_embd|n_inner|rank|buckets)\Z"
)
_WIDTHS_AT_LEAST: Final = 2**20
_WIDTH_FACTOR: Final = 16
# Positions need no tensor, but some classes make a table of them in true memory. The longest context of
# published weights is of 10,485,760 tokens (Llama 4 Scout).
_POSITIONS: Final = re.compile(r"(positions?|position_embeddings|n_ctx)\Z")
_MOST_POSITIONS: Final = 2**24
# A label is a row of a head, and the libraries make a name for each.
_LABELS: Final = re.compile(r"(num|n)_(labels|classes)\Z")
# A picture has the square of its side in patches, and each may have a place in a table.
_IMAGES: Final = re.compile(r"(image|img|crop)_size\Z")
_MOST_PIXELS: Final = 2**13
# A group of weights is no longer than a row of them.
_GROUPS: Final = re.compile(r"(group|block)_size\Z")
# A share of a head's width, which is 1 at most; the table of frequencies is that wide.
_SHARES: Final = re.compile(r"(partial_rotary_factor|rotary_pct)\Z")
_MOST_SHARE: Final = 64


@dataclass(frozen=True)
class ModelConfig:
    """What the levels need of ``config.json``.

    Attributes:
        raw: All of it.
        architecture: The first of ``architectures``: a class of transformers; ``""`` if none is named.
        model_type: transformers' name of the family; ``""`` if it is not given.
        text: The part about the language model: ``text_config``, or all of it if there is none.
        vision: The part about the vision tower, or None.
        tied: Whether the head is the embedding, as the file says; None if it says nothing.
        quantization: ``quantization_config``, or None.
        dtype: In which numbers the weights are, such as ``bfloat16``; None if it is not given.
        mtp_layers: Layers for multi-token prediction, which lie outside the model proper.
    """

    raw: dict[str, Any]
    architecture: str
    model_type: str
    text: dict[str, Any]
    vision: dict[str, Any] | None
    tied: bool | None
    quantization: dict[str, Any] | None
    dtype: str | None
    mtp_layers: int

    @property
    def quant_method(self) -> str:
        """``fp8``, ``gptq`` …; ``""`` if nothing is quantized."""
        return _text((self.quantization or {}).get("quant_method"))

    @property
    def layout_known(self) -> bool:
        """Whether dtypes and shapes can be told: nothing is quantized, or as FP8 or GPTQ are."""
        return not self.quantization or self.quant_method in {"fp8", "gptq"}


def read_config(checkpoint: Checkpoint) -> ModelConfig:
    """Read ``config.json`` and refuse what no model can be.

    Raises:
        SkippedError: There is no single model that it could be of, see `_require_model`.
        FailedError: It is missing, no JSON object, too large, nested too deep, or has a number of
            layers, or a width, that the tensors that are there could never fill (``model-config``).
        DamageError: It cannot be read as it should be.
    """
    raw = None
    if CONFIG in checkpoint.files:
        # before all else: the library that loads a tokenizer reads the file also where there is no model
        raw = _object(_content(checkpoint))
        _check_numbers(raw, checkpoint.tensors.values())
    _require_model(checkpoint)
    return _understood(_object(_content(checkpoint)) if raw is None else raw)


def _refused(message: str) -> FailedError:
    return FailedError(Finding("model-config", message, path=CONFIG, hint=_HINT))


def _content(checkpoint: Checkpoint) -> bytes:
    try:
        return checkpoint.read(CONFIG, _MOST_BYTES)
    except FileNotFoundError:
        raise _refused("There is no config.json: nothing says what kind of model it is.") from None
    except ValueError:
        limit = human_bytes(_MOST_BYTES)
        raise _refused(f"config.json is larger than {limit}; it was not read.") from None


def _object(content: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(content)  # msgspec refuses Infinity, which true configs have
    except (ValueError, RecursionError) as error:
        raise _refused(f"config.json is no JSON: {printable(str(error))}") from None
    if not isinstance(raw, dict):
        raise _refused("config.json is no JSON object.")
    return raw


def _check_numbers(raw: dict[str, Any], tensors: Iterable[StoredTensor]) -> None:
    # one without bytes may have any shape
    filled = [tensor for tensor in tensors if tensor.size]
    widest = max((max(tensor.shape, default=0) for tensor in filled), default=0)
    limits = (
        (_COUNT, max(_COUNTS_AT_LEAST, len(filled))),
        (_EXPERTS, max(_COUNTS_AT_LEAST, len(filled), widest)),
        (_WIDTH, max(_WIDTHS_AT_LEAST, _WIDTH_FACTOR * widest)),
        (_POSITIONS, max(_MOST_POSITIONS, widest)),
        (_LABELS, max(_COUNTS_AT_LEAST, widest)),
        (_IMAGES, _MOST_PIXELS),
        (_GROUPS, max(_WIDTHS_AT_LEAST, widest)),
        (_SHARES, _MOST_SHARE),
    )
    for key, number in _numbers(raw):
        _refuse_nothing(key, number)
        for pattern, limit in limits:
            if pattern.search(key) and abs(number) > limit:
                shown = f"{printable(key)} = {printable(str(number), 20)}"
                message = f"config.json says {shown}; the tensors that are there allow {limit:,}."
                raise _refused(message)


def _refuse_nothing(key: str, number: float) -> None:
    """Raise FailedError for a number that must be above zero and is not."""
    if _NEEDED.fullmatch(key):
        right = number >= 1 or (key == "group_size" and number == _ALL)
    else:
        right = not _BASE.fullmatch(key) or number > 0
    if not right:  # also what is no number (NaN)
        shown = f"{printable(key)} = {printable(str(number), 20)}"
        raise _refused(f"config.json says {shown}; no model can be built with that.")


def _numbers(raw: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every number, and length of a list, with the key that it stands below; without recursion."""
    waiting: list[tuple[str, Any, int]] = [("", raw, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            raise _refused(f"config.json is nested more than {_MOST_DEPTH} levels deep.")
        if isinstance(value, dict):
            names = [key] * len(value) if key in _NAMED else value
            pairs = zip(names, value.values(), strict=True)
            waiting += [(name, inner, depth + 1) for name, inner in pairs]
        elif isinstance(value, list):
            yield key, max(1, len(value))  # an empty list is no number that is too small
            waiting += [(key, inner, depth + 1) for inner in value]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield key, value


def _understood(raw: dict[str, Any]) -> ModelConfig:
    text = _part(raw, "text_config") or raw
    architectures = raw.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else ""
    mtp = text.get("mtp_num_hidden_layers") or text.get("num_nextn_predict_layers")
    return ModelConfig(
        raw=raw,
        architecture=_text(named),
        model_type=_text(raw.get("model_type")),
        text=text,
        vision=_part(raw, "vision_config"),
        tied=_tied(raw, text),
        quantization=_part(raw, "quantization_config") or _part(text, "quantization_config"),
        dtype=_dtype(raw) or _dtype(text),
        mtp_layers=mtp if isinstance(mtp, int) and mtp > 0 else 0,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _part(raw: dict[str, Any], key: str) -> dict[str, Any] | None:
    part = raw.get(key)
    return part if isinstance(part, dict) else None


def _tied(raw: dict[str, Any], text: dict[str, Any]) -> bool | None:
    for part in (raw, text):
        tied = part.get("tie_word_embeddings")
        if isinstance(tied, bool):
            return tied
    return None


def _dtype(part: dict[str, Any]) -> str | None:
    """Return the dtype that is named; older files call it ``torch_dtype``."""
    for key in ("dtype", "torch_dtype"):
        if name := _text(part.get(key)).removeprefix("torch."):
            return name
    return None
