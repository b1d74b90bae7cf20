"""The fixed picture, and the processor of Qwen2-VL and Qwen3.5 for it, in bounds, and without torchvision.

Golden records rest on the picture, so it is never to be changed. Source of the arithmetic: transformers,
``image_processing_pil_qwen2_vl.py`` (``smart_resize``).
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np

from archiver.archive.findings import Finding
from archiver.smoke.report import FailedError, library_errors
from archiver.smoke.tokenizer.tokenizer_file import json_of
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.smoke.session import Session


SIDE: Final = 256
"""Width and height in pixels: 65,536 pixels, the fewest that Qwen's processor takes without resizing."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def fixed_image() -> Pixels:
    """Return a picture of shape (height, width, 3), RGB: colours that run into each other, a disc, a bar.

    It is made of whole numbers alone, so that it is the same on every machine.
    """
    rows, columns = np.indices((SIDE, SIDE))
    image = np.stack([columns, rows, (rows + columns) // 2], axis=-1).astype(np.uint8)
    disc = (rows - 96) ** 2 + (columns - 96) ** 2 < 56**2
    bar = np.zeros((SIDE, SIDE), bool)
    bar[160:208, 32:224] = True
    image[disc] = (230, 40, 30)
    image[bar] = (20, 60, 200)
    image[bar & (columns // 16 % 2 == 0)] = (250, 240, 120)
    return image


# ---- the processor
#
# Source of the arithmetic: transformers, ``image_processing_pil_qwen2_vl.py`` (``smart_resize``).


PREPROCESSOR: Final = "preprocessor_config.json"
_PROCESSORS: Final = ("Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast")
_PROCESSING: Final = "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
_MOST_PATCHES: Final = 4096
_MOST_PIXELS: Final = 2**22
_PROCESSOR_HINT: Final = "Compare the file with upstream's."

_Count = Annotated[int, msgspec.Meta(ge=1, le=64)]
_Pixels = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
_Share = Annotated[float, msgspec.Meta(gt=0, le=1000)]
_Mean = Annotated[float, msgspec.Meta(ge=0, le=1000)]


class _Size(msgspec.Struct):
    shortest_edge: _Pixels
    longest_edge: _Pixels


class Processing(msgspec.Struct, omit_defaults=True):
    """What is taken of ``preprocessor_config.json``; the processor's own values where it says nothing."""

    size: _Size | None = None
    min_pixels: _Pixels | None = None
    max_pixels: _Pixels | None = None
    patch_size: _Count = 14
    temporal_patch_size: _Count = 2
    merge_size: _Count = 2
    image_mean: tuple[_Mean, _Mean, _Mean] | None = None
    image_std: tuple[_Share, _Share, _Share] | None = None
    rescale_factor: _Share | None = None
    do_resize: bool | None = None
    do_rescale: bool | None = None
    do_normalize: bool | None = None
    resample: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None

    def grid(self) -> tuple[int, int]:
        """Return how many patches high and wide the fixed picture becomes."""
        factor = self.patch_size * self.merge_size
        least, most = self._pixels()
        side = SIDE if self.do_resize is False else max(1, round(SIDE / factor)) * factor
        if self.do_resize is not False and side * side > most:
            side = max(factor, math.floor(math.sqrt(most) / factor) * factor)
        elif self.do_resize is not False and side * side < least:
            side = math.ceil(math.sqrt(least) / factor) * factor
        return side // self.patch_size, side // self.patch_size

    def _pixels(self) -> tuple[int, int]:
        size = self.size or _Size(56 * 56, 28 * 28 * 1280)
        return self.min_pixels or size.shortest_edge, self.max_pixels or size.longest_edge


def not_tried(session: Session) -> str:
    """Return why a picture cannot be tried, as a sentence; ``""`` if it can.

    Raises:
        FailedError: ``preprocessor_config.json`` cannot be understood.
        DamageError: It cannot be read as it should be.
    """
    settings = _settings(session)
    if settings is None:
        return f"There is no {PREPROCESSOR}, so nothing says how a picture is to be prepared."
    named = settings.get("image_processor_type")
    if named not in _PROCESSORS:
        return f"Its pictures need {printable(str(named), 60)}; only those of Qwen are tried."
    if importlib.util.find_spec("PIL") is None:
        return "Pillow is not installed."
    if importlib.util.find_spec(_PROCESSING) is None:
        return "This version of transformers prepares pictures in another way."
    return _torchvision_problem()


def _torchvision_problem() -> str:
    """Return whether torchvision fits torch: else transformers' image classes break on import."""
    if importlib.util.find_spec("torchvision") is None:
        return ""
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # noqa: BLE001 - a build that does not fit raises anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"The installed torchvision does not fit torch ({printable(lines[0], 100)}): uninstall it."
    return ""


def prepared(session: Session) -> tuple[dict[str, Any], int]:
    """Return the fixed picture as the model takes it, and how many tokens stand for it.

    The tensors are ``pixel_values`` (patches, numbers in a patch) and ``image_grid_thw`` (1, 3).

    Raises:
        FailedError: ``preprocessor_config.json`` cannot be used, or does not fit the vision tower.
        DamageError: It cannot be read as it should be.
    """
    settings = _understood(_settings(session) or {})
    _check_fits(settings, (session.config.vision or {}))
    high, wide = settings.grid()
    area = settings.patch_size**2 * settings.temporal_patch_size
    if not 0 < high * wide <= _MOST_PATCHES or high * wide * area > _MOST_PIXELS:
        raise _refused(
            f"It makes {high * wide:,} patches of the fixed picture, which is not tried."
        )
    with library_errors("model-config", f"Preparing the fixed picture by {PREPROCESSOR}"):
        data = _processed(settings)
    tokens = int(data["image_grid_thw"].prod()) // settings.merge_size**2
    return data, tokens


def _processed(settings: Processing) -> dict[str, Any]:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (  # noqa: PLC0415 - of the extra
        Qwen2VLImageProcessorPil,
    )

    options = msgspec.to_builtins(settings)
    sized = {name: value for name, value in options.items() if value is not None}
    processor = Qwen2VLImageProcessorPil(**sized)
    return dict(processor(images=[fixed_image()], return_tensors="pt"))


def _settings(session: Session) -> dict[str, Any] | None:
    content = json_of(session.checkpoint, PREPROCESSOR, dict[str, Any])
    if isinstance(content, Finding):
        raise _refused(content.message)
    settings: dict[str, Any] | None = content
    return settings


def _understood(settings: dict[str, Any]) -> Processing:
    try:
        return msgspec.convert(settings, Processing)
    except msgspec.ValidationError as error:
        raise _refused(f"{PREPROCESSOR} cannot be used: {printable(str(error))}.") from None


def _check_fits(settings: Processing, vision: dict[str, Any]) -> None:
    pairs = (
        ("patch_size", settings.patch_size, vision.get("patch_size")),
        ("temporal_patch_size", settings.temporal_patch_size, vision.get("temporal_patch_size")),
        ("merge_size", settings.merge_size, vision.get("spatial_merge_size")),
    )
    for name, here, there in pairs:
        if there is not None and here != there:
            message = (
                f"{PREPROCESSOR} says {name} = {here}, config.json {printable(str(there), 30)}"
            )
            raise _refused(f"{message}: the vision tower cannot take such patches.")


def _refused(message: str) -> FailedError:
    return FailedError(Finding("model-config", message, path=PREPROCESSOR, hint=_PROCESSOR_HINT))
