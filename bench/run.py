"""``python bench/run.py``: measure, print the table, keep it in bench/results.

Compares this archive with other tools in one run and on the same files, and says of each target
whether it was reached. Each figure is that of a whole process, start-up included, with inputs in
the page cache.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from page import paste
from table import Report
from tools import cores

CASES = (
    "codec", "stages", "mirror", "memory", "tensors", "startup", "catalogue", "fixity", "faults", "smoke",
    "mount", "serve",
)  # fmt: skip
RESULTS = Path(__file__).with_name("results")


def main() -> int:
    """Run the chosen cases; 0 also when targets are missed: the table says so."""
    options = _options()
    report, begin = Report(), time.monotonic()
    for name in options.only:
        started = time.monotonic()
        importlib.import_module(f"cases_{name}").run(report, small=options.small)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    text = report.markdown(_head(options, time.monotonic() - begin))
    print(text)
    _keep(report, text, options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=_names, default=CASES, help=f"some of {','.join(CASES)}")
    parser.add_argument("--small", action="store_true", help="smaller inputs, fewer repeats")
    parser.add_argument("--no-save", action="store_true", help="only print")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(CASES):
        raise argparse.ArgumentTypeError(f"cases are {', '.join(CASES)}")
    return names


def _head(options: argparse.Namespace, seconds: float) -> str:
    today = dt.datetime.now(dt.UTC).date()
    size = "small inputs" if options.small else "full inputs"
    return (
        f"# Benchmark of {today}\n\n"
        f"{cores()} cores ({_processor()}), Python {platform.python_version()}, {size}, "
        f"cases {', '.join(options.only)}, {seconds / 60:.0f} minutes, "
        f"load when it ended {os.getloadavg()[1]:.1f}. Warm page cache. MB are 10^6 bytes."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _keep(report: Report, text: str, options: argparse.Namespace) -> None:
    if options.no_save:
        return
    RESULTS.mkdir(exist_ok=True)
    stem = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")
    parts = [f"{cores()}cores", *(["small"] if options.small else [])]
    whole = options.only == CASES
    parts += [] if whole else options.only
    name = "-".join([stem, *parts])
    (RESULTS / f"{name}.json").write_text(json.dumps(report.data(), indent=1) + "\n")
    if whole and not options.small:
        (RESULTS / "latest.md").write_text(text)
        paste(text)


if __name__ == "__main__":
    sys.exit(main())
