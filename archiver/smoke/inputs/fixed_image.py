"""The fixed picture of the smoke test. Golden receipts rest on it, so it is never to be changed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

SIDE: Final = 256
"""Width and height in pixels: 65,536 pixels, the fewest that Qwen's processor takes without resizing."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def fixed_image() -> Pixels:
    """A picture of shape (height, width, 3), RGB: colours that run into each other, a disc, a bar.

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
