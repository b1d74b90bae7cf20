"""A thousand random faults, one at a time: each must be found, and healed if parity is strong enough."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import data
from measure import scratch
from table import Check

from archiver.cli.main import invoke

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from table import Report

COUNT = {False: 1000, True: 50}
INPUT, MORE = "faults", "snapshots"
SEED = 20261123
STORED = ("packs", "manifests", "snapshots", "journal", "parity")


class Outcome(NamedTuple):
    """What became of one fault."""

    kind: str
    file: str
    found: bool
    healed: bool
    same: bool
    """Every stored file is what it was, and nothing else is lost."""
    named: bool
    """What could not be healed was reported, with the files that are hit."""
    seconds: float


def run(report: Report, *, small: bool) -> None:
    """Damage, audit, repair, compare; again and again."""
    chance = random.Random(SEED)
    with scratch() as work:
        archive = _archive(work)
        good, heads = _files(archive), _heads(archive)
        outcomes = [_try(archive, good, heads, chance) for _ in range(COUNT[small])]
    _tabulate(report, outcomes)


def _archive(work: Path) -> Path:
    """An archive of some models, proven, with parity for all of it."""
    archive, item = work / "store", data.get(INPUT)
    models = sorted(data.get(MORE).folder.iterdir())[:3]
    for command in (
        ["init"],
        ["policy", "set", "--parity", "2"],
        ["import", str(item.folder), "--as", "bench/faults"],
        *(["import", str(model), "--as", f"bench/{model.name}"] for model in models),
        ["parity", "add"],
        ["audit", "--level", "content"],
        ["parity", "add"],
    ):
        code, printed = _archiver(archive, *command)
        if code:
            raise SystemExit(f"{command}: exit {code}\n{printed}")
    return archive


def _heads(archive: Path) -> list[str]:
    """What vouches for the newest events; kept elsewhere, as the page on reliability advises."""
    rows = map(json.loads, _archiver(archive, "head")[1].splitlines())
    return [word for row in rows if row["kind"] == "head" for word in ("--head", row["id"])]


def _archiver(archive: Path, *words: str) -> tuple[int, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        code = invoke(["-q", "--json", "-C", str(archive), *words])
    return code, output.getvalue()


def _files(archive: Path) -> dict[str, bytes]:
    """Every file that must not be lost."""
    paths = [archive / "archive.json"]
    paths += [path for part in STORED for path in sorted((archive / part).rglob("*"))]
    return {
        path.relative_to(archive).as_posix(): path.read_bytes() for path in paths if path.is_file()
    }


def _flip(body: bytearray, chance: random.Random) -> bytes:
    body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return bytes(body)


def _zero(body: bytearray, chance: random.Random) -> bytes:
    size = min(len(body), chance.choice((512, 4096, 65536)))
    at = chance.randrange(len(body) - size + 1)
    body[at : at + size] = bytes(size)
    return bytes(body)


def _noise(body: bytearray, chance: random.Random) -> bytes:
    size = min(len(body), chance.choice((1, 16, 512, 4096)))
    at = chance.randrange(len(body) - size + 1)
    body[at : at + size] = chance.randbytes(size)
    return bytes(body)


def _cut(body: bytearray, chance: random.Random) -> bytes:
    return bytes(body[: -min(len(body), chance.randint(1, 65536))])


def _empty(_body: bytearray, _chance: random.Random) -> bytes:
    return b""


FAULTS: dict[str, Callable[[bytearray, random.Random], bytes] | None] = {
    "bit flip": _flip,
    "zeroed stretch": _zero,
    "noise": _noise,
    "tail cut off": _cut,
    "emptied": _empty,
    "missing": None,
}


def _try(archive: Path, good: dict[str, bytes], heads: list[str], chance: random.Random) -> Outcome:
    begin = time.monotonic()
    name, kind = _spoil(archive, good, chance)
    # A sidecar that is gone is no damage: the file that it protected is listed as without one.
    digest = (re.findall("[0-9a-f]{64}", name) or [name])[-1]
    found, audited = _archiver(archive, "audit", *heads)
    found = found or int(digest in _archiver(archive, "parity", "status")[1])
    code, repaired = _archiver(archive, "repair", "--no-upstream")
    _archiver(archive, "parity", "add")
    same = all(_same(archive / file, body) for file, body in good.items())
    _back(archive, good)
    named = any(word in audited + repaired for word in (name, digest))
    family = name.partition("/")[0]
    return Outcome(kind, family, bool(found), code == 0, same, named, time.monotonic() - begin)


def _same(path: Path, body: bytes) -> bool:
    """Whether the file is what it was; ``archive.json`` says the same when it names the same archive."""
    if not path.is_file():
        return False
    now = path.read_bytes()
    if path.name != "archive.json":
        return now == body
    keys = ("archive", "format", "features")
    return [json.loads(now)[key] for key in keys] == [json.loads(body)[key] for key in keys]


def _spoil(archive: Path, good: dict[str, bytes], chance: random.Random) -> tuple[str, str]:
    """Damage one file so that its bytes really differ; its name and how."""
    while True:
        family = chance.choice(("archive.json", *STORED))
        name = chance.choice([file for file in good if file.startswith(family)])
        kind = chance.choice(list(FAULTS))
        fault, path = FAULTS[kind], archive / name
        body = None if fault is None else fault(bytearray(good[name]), chance)
        if body == good[name]:
            continue
        path.chmod(0o644)
        path.unlink()
        if body is not None:
            path.write_bytes(body)
        return name, kind


def _back(archive: Path, good: dict[str, bytes]) -> None:
    """The archive as it was: the next fault is single again."""
    for part in (*STORED, "quarantine"):
        for path in list((archive / part).rglob("*")):
            if path.is_file() and path.relative_to(archive).as_posix() not in good:
                path.chmod(0o644)
                path.unlink()
    for name, body in good.items():
        path = archive / name
        if not path.is_file() or path.read_bytes() != body:
            path.unlink(missing_ok=True)
            path.write_bytes(body)


def _tabulate(report: Report, outcomes: list[Outcome]) -> None:
    families = sorted({outcome.file for outcome in outcomes})
    rows = []
    for kind in FAULTS:
        for family in families:
            group = [
                outcome for outcome in outcomes if (outcome.kind, outcome.file) == (kind, family)
            ]
            if group:
                count = Counter(found=sum(outcome.found for outcome in group))
                count["healed"] = sum(outcome.healed and outcome.same for outcome in group)
                rows.append(
                    [kind, family, *map(str, (len(group), count["found"], count["healed"]))]
                )
    names = ["fault", "file", "times", "found", "healed"]
    report.tables.append((f"{len(outcomes)} random single faults", names, rows))
    report.raw["faults"] = json.loads(json.dumps(outcomes))
    total = float(len(outcomes))
    found = float(sum(outcome.found for outcome in outcomes))
    report.checks.append(Check("single faults found", found, total, at_least=True))
    weak = [outcome for outcome in outcomes if not outcome.healed and not _beyond(outcome)]
    healed = total - len(weak)
    report.checks.append(Check("healed, or beyond parity's strength", healed, total, at_least=True))
    silent = [
        outcome
        for outcome in outcomes
        if not outcome.same and not (outcome.found and outcome.named)
    ]
    report.checks.append(Check("lost without a word", float(len(silent)), 0.0))


def _beyond(outcome: Outcome) -> bool:
    """A pack that is gone whole needs another copy: parity holds a sixteenth of it."""
    return outcome.file == "packs" and outcome.kind in {"missing", "emptied"}
