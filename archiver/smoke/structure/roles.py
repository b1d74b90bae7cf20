"""The role of a tensor: its name with the numbers of layers and experts left out."""

from __future__ import annotations

import re
from typing import Final

# only numbers that count what is alike: "conv.0" and "conv.1" may be a convolution and its norm
_NUMBER: Final = re.compile(r"(?<![^.])(layers?|h|blocks?|experts)\.[0-9]+(?![^.])")


def role(name: str) -> str:
    """``model.layers.7.mlp.experts.3.up_proj.weight`` → ``model.layers.*.mlp.experts.*.up_proj.weight``."""
    return _NUMBER.sub(r"\1.*", name)
