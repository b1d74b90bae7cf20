"""How long the catalogue takes to answer, of 21 repositories with a million tensors.

The tensors have a byte each: what is asked for is names. Each repository's differ in dtype or number from
the others', so that no list of them is shared.
"""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING

from measure import run as measured
from measure import scratch
from table import Check
from tools import ARCHIVER, init_archive

if TYPE_CHECKING:
    from pathlib import Path

    from table import Report

SECONDS = 0.6
REPOSITORIES, FILES = 21, 4
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def run(report: Report, *, small: bool) -> None:
    """Measure list, search, sql and status."""
    tensors = 600 if small else 11_905
    with scratch() as work:
        init_archive(work)
        place = ["-C", str(work / "store")]
        for number in range(REPOSITORIES):
            folder = work / f"model{number}"
            write_model(folder, number, tensors + number)
            name = f"Org/Model-{number}B"
            measured([ARCHIVER, "-q", "import", *place, str(folder), "--as", name])
        measured([ARCHIVER, "-q", "audit", *place])  # else a status has something to say
        for what, words in {
            "list": ["list"],
            "status": ["status"],
            "search of tensors": ["search", "gate_proj"],
            "search of cards": ["search", "mixture", "experts"],
            "sql": ["sql", "SELECT count(*) FROM repositories"],
        }.items():
            command = [ARCHIVER, *words, *place]
            measured(command)  # the first one brings the catalogue up to date
            usages = [measured(command) for _ in range(3 if small else 9)]
            seconds = sorted(usage.wall for usage in usages)
            cpu = median(usage.cpu for usage in usages)
            note = f"{seconds[0]:.2f} to {seconds[-1]:.2f} s; CPU {cpu:.2f} s"
            title = f"{what}, 21 repositories of {4 * tensors:,} tensors"
            report.checks.append(Check(title, median(seconds), SECONDS, " s", note=note))
            report.raw[title] = usages


def write_model(folder: Path, seed: int, tensors: int) -> None:
    """Write a card, and files of so many tensors each."""
    folder.mkdir()
    card = f"---\nlicense: apache-2.0\ntags: [moe]\n---\n# Model {seed}\n\nA mixture of experts.\n"
    (folder / "README.md").write_text(card)
    for file in range(FILES):
        header = {
            f"model.layers.{file}.mlp.experts.{at // 3}.{PROJECTIONS[at % 3]}.weight": {
                "dtype": "U8",
                "shape": [1],
                "data_offsets": [at, at + 1],
            }
            for at in range(tensors)
        }
        text = json.dumps(header).encode()
        name = f"model-{file + 1:05}-of-{FILES:05}.safetensors"
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(tensors))
