"""``python bench/with_cores.py N COMMAND...``: archiver as on a machine with N cores.

Only how many there are is made up, not how fast they are: peaks of memory can be measured so, rates cannot.
"""

from __future__ import annotations

import os
import sys

count = int(sys.argv.pop(1))
os.sched_getaffinity = lambda _pid: set(range(count))  # type: ignore[assignment]
os.cpu_count = lambda: count

from archiver.__main__ import main  # noqa: E402 - it may count the cores while it is imported

main()
