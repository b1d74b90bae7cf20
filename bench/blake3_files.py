"""``python blake3_files.py FOLDER``: BLAKE3 of every file below a folder, as b3sum would."""

from __future__ import annotations

import sys
from pathlib import Path

from blake3 import blake3

for path in sorted(Path(sys.argv[1]).rglob("*.pack")):
    print(blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest(), path)
