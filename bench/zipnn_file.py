"""``zipnn_file.py (in|out) DTYPE SOURCE TARGET``: zipnn has a library only, this is its command.

zipnn imports torch for tensors; for bytes it needs none of it, so a stand-in spares zipnn the seconds
and the memory of that import.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import MagicMock

for name in ("torch", "safetensors.torch"):
    sys.modules[name] = MagicMock()

import zipnn  # noqa: E402 - after its stand-ins

way, dtype, source, target = sys.argv[1:]
coder = zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype)
data = bytearray(Path(source).read_bytes())
Path(target).write_bytes(coder.compress(data) if way == "in" else coder.decompress(data))
