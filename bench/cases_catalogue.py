"""How long an archive of 21 repositories with a million tensors takes to answer, and an idle night over it.

The tensors have a byte each: what is asked for is names. Each repository's differ in dtype or number from
the others', so that no list of them is shared. They come from a hub on the loopback, by a plan.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING

from measure import run as measured
from measure import scratch
from table import Check
from tools import ARCHIVER, init_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from measure import Usage
    from table import Report

SECONDS, NIGHT_SECONDS, NIGHT_BYTES, REQUESTS = 0.6, 10.0, 400e6, 2
REPOSITORIES, FILES = 21, 4
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
CARD_WORDS = 4000
"""About as many as the card of a large model has."""


def run(report: Report, *, small: bool) -> None:
    """Measure nights on which nothing is new, list, search, sql and status."""
    tensors = 600 if small else 11_905
    repeats = 3 if small else 9
    title = f"21 repositories of {FILES * tensors:,} tensors"
    with scratch() as work:
        init_archive(work)
        store = str(work / "store")
        names = [f"Org/Model-{number}B" for number in range(REPOSITORIES)]
        for number, name in enumerate(names):
            write_model(work / "hub" / name, number, tensors + number)
        plan = write_plan(work / "plan.toml", names)
        with hub(work / "hub") as endpoint:
            env = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
            night = [ARCHIVER, "-q", "night", "--min-free", "0B", "-C", store, str(plan)]
            measured(night, env)  # the first one mirrors
            auditing = [measured(night, env) for _ in range(min(repeats, 5))]
            _judge(report, f"night that audits 5 %, {title}", auditing, NIGHT_SECONDS)
            measured([ARCHIVER, "-q", "audit", "-C", store])  # now nothing is due
            idle = [measured(night, env) for _ in range(repeats)]
            _judge(report, f"idle night, {title}", idle, NIGHT_SECONDS)
            peak = max(usage.rss for usage in (*idle, *auditing))
            report.checks.append(
                Check("peak memory of such a night", peak / 1e6, NIGHT_BYTES / 1e6, " MB")
            )
            requests = _requests(night, env) / REPOSITORIES
            report.checks.append(
                Check("requests of an idle night a repository", requests, REQUESTS)
            )
        for what, words in {
            "list": ["list"],
            "status": ["status"],
            "search of tensors": ["search", "gate_proj"],
            "search of cards": ["search", "mixture", "experts"],
            "sql": ["sql", "SELECT count(*) FROM repositories"],
        }.items():
            command = [ARCHIVER, *words, "-C", store]
            measured(command)  # the first one brings the catalogue up to date
            usages = [measured(command) for _ in range(repeats)]
            _judge(report, f"{what}, {title}", usages, SECONDS)


def _judge(report: Report, title: str, usages: list[Usage], limit: float) -> None:
    """Note a check of the median time."""
    seconds = sorted(usage.wall for usage in usages)
    cpu = median(usage.cpu for usage in usages)
    note = f"{seconds[0]:.2f} to {seconds[-1]:.2f} s; CPU {cpu:.2f} s"
    report.checks.append(Check(title, median(seconds), limit, " s", note=note))
    report.raw[title] = usages


def _requests(night: list[str], env: dict[str, str]) -> int:
    """Return how many requests an idle night sends, by its own count."""
    done = subprocess.run(
        [*night, "--json"], env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes = {step["step"]: step["outcome"] for step in steps if step["kind"] == "step"}
    if set(outcomes.values()) != {"idle"}:
        raise AssertionError(f"the night was not idle: {outcomes}")
    return sum(step["counts"].get("requests", 0) for step in steps if step["kind"] == "step")


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Serve the folders of models as a hub in a process of its own; its endpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "archiver.loopback", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


def write_plan(path: Path, names: list[str]) -> Path:
    """Write a plan of these repositories, whose nights audit a part of the archive."""
    entries = "".join(f'[[repository]]\nname = "{name}"\n' for name in names)
    night = '[night]\naudit = { share = "5%", level = "content" }\nparity = true\n'
    path.write_text(f'[plan]\nname = "nightly"\n{entries}{night}')
    return path


def write_model(folder: Path, seed: int, tensors: int) -> None:
    """Write a card, and files of so many tensors each."""
    folder.mkdir(parents=True)
    words = random.Random(seed).choices([f"{word:x}" for word in range(9000)], k=CARD_WORDS)
    card = f"---\nlicense: apache-2.0\ntags: [moe]\n---\n# Model {seed}\n\nA mixture of experts.\n"
    (folder / "README.md").write_text(card + " ".join(words) + "\n")
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
