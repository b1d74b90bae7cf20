"""How a smoke test is told, by ``smoke-test``, ``restore`` and ``audit``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.findings import hint_of, message_of, placed, record_all, show_all
from archiver.cli.progress import Meter
from archiver.errors import DeniedError
from archiver.text import human_bytes, human_duration, human_rate, printable

if TYPE_CHECKING:
    from archiver.archive.findings import Finding
    from archiver.operations.smoke_test import SmokeTest
    from archiver.smoke.report import Level, LevelReport


_MARKS: Final = {"held": "✓", "failed": "✗", "skipped": "-", "inapplicable": "·"}
_LONGEST: Final = 2000
_TOLD: Final = ("torch", "transformers")
"""Libraries whose versions a person is told; --json and the receipt have all of them."""


def tell_level(level: LevelReport) -> None:
    """How a level ended, at once: a test that is killed has told what it knew."""
    output.record("level", **msgspec.to_builtins(level))
    _tell_level(level)
    output.flush()


def tell_fit(lines: tuple[str, ...]) -> None:
    """How the model fits, above the progress: it is known long before the rest is."""
    for line in lines:
        output.remark(printable(line, _LONGEST))


def tell(test: SmokeTest, *, recorded: bool = False) -> None:
    """Tell what is left once the levels were told, then end with the exit code.

    ``recorded``: a golden record was asked for.

    Raises:
        DeniedError: All held, and the record that was asked for could be kept nowhere.
    """
    report = test.report
    record_all(report.findings)
    fields = msgspec.to_builtins(test)
    del fields["run"]
    fields |= fields.pop("report") | test.run._asdict()
    output.record("smoke-test", held=report.held, exit_code=int(report.exit_code), **fields)
    for remark in test.remarks:
        output.remark(f"remark: {printable(remark, _LONGEST)}")
    if test.unkept:
        output.remark(f"This test is not in the archive's journal: {test.unkept}")
    if test.advice:
        output.line(f"→ {printable(test.advice, _LONGEST)}")
    output.line(_made_by(test))
    output.line(_verdict(test))
    if report.exit_code:
        raise click.exceptions.Exit(int(report.exit_code))
    if recorded and not test.recorded:
        raise DeniedError(
            f"The golden record could not be kept: {test.unkept}",
            hint="Name a new file for it with --golden.",
        )


def _tell_level(level: LevelReport) -> None:
    mark = _MARKS[level.verdict]
    if level.verdict in {"held", "failed"}:
        output.line(f"{mark} {level.level}: {level.verdict} ({human_duration(level.seconds)})")
    else:
        word = "skipped" if level.verdict == "skipped" else "does not apply"
        output.line(f"{mark} {level.level}: {word}: {printable(level.reason, _LONGEST)}")
        if level.hint:
            output.line(f"    → {printable(level.hint, _LONGEST)}")
    for proved in level.proved:
        output.line(f"    {printable(proved, _LONGEST)}")
    show_all(finding for finding in level.findings if not finding.remark)
    for finding in level.findings:
        if finding.remark:
            _tell_remark(finding)


def _tell_remark(finding: Finding) -> None:
    word = "accepted by the policy" if finding.accepted else "remark"
    code = finding.code if not finding.accepted else placed(finding)
    output.line(f"    {word}: {code}: {printable(message_of(finding), _LONGEST)}")
    if (hint := hint_of(finding)) and not finding.accepted:
        output.line(f"      → {printable(hint, _LONGEST)}")


def _made_by(test: SmokeTest) -> str:
    """With which versions, on what machine, and where that is kept."""
    environment = test.report.environment
    libraries = environment.get("libraries", {})
    versions = [f"{one} {libraries[one]}" for one in _TOLD if one in libraries]
    machine = [f"Python {environment['python']}", environment["system"], environment["cpu"]]
    kept = f" Receipt: event {test.event[:16]} of the journal." * bool(test.event)
    return f"With {printable(', '.join([*versions, *machine]), _LONGEST)}.{kept}"


def _verdict(test: SmokeTest) -> str:
    report = test.report
    title = printable(report.title, _LONGEST)
    failed = [one.level for one in report.levels if one.verdict == "failed"]
    skipped = [one.level for one in report.levels if one.verdict == "skipped"]
    if failed:
        return f"DOES NOT HOLD: {title}: {_named(failed)} failed."
    if skipped:
        return f"NOT SHOWN: {title}: {_named(skipped)} could not run."
    kept = f" Recorded: {', '.join(printable(one) for one in test.recorded)}." * bool(test.recorded)
    return f"{_word(test)}: {title}: {_ran(test)}{_accepted(test)}.{kept}"


def _accepted(test: SmokeTest) -> str:
    """The codes that were found and failed nothing, so that the last line does not hide them."""
    codes = sorted({one.code for one in test.report.findings if one.accepted})
    return f"; accepted by the policy: {', '.join(codes)}" * bool(codes)


def _named(levels: list[Level]) -> str:
    return f"level{'s' * (len(levels) > 1)} {', '.join(levels)}"


def _word(test: SmokeTest) -> str:
    """What was shown; a model that only had its headers read was not seen to run."""
    held = {one.level for one in test.report.levels if one.verdict == "held"}
    return "It runs" if "forward" in held else "It loads" if "load" in held else "It is sound"


def _ran(test: SmokeTest) -> str:
    held = ", ".join(one.level for one in test.report.levels if one.verdict == "held")
    how = " ".join(part for part in (test.run.mode, test.run.dtype, test.run.device) if part)
    return f"{held} held" + (f" ({how})" if test.run.mode else "")


# ---- Progress of a smoke test: which level runs, how much it has read, and that it still reads.


_EVERY: Final = 60.0
"""Seconds between two lines of a log: one that stays out for long tells that the run is stuck."""


class SmokeMeter(Meter):
    """Shows bytes read in a level: live on a terminal, else a line about once a minute."""

    def __init__(self) -> None:
        super().__init__("Starting the smoke test", "tensors")
        self._told = self._started

    def phase(self, verb: str) -> None:
        """Another level begins."""
        self._told = time.monotonic()
        super().phase(verb)

    def advance(self, count: int, *, fetched: bool) -> None:
        """Bytes were read; all of them count for the rate."""
        super().advance(count, fetched=fetched or count > 0)
        now = time.monotonic()
        if self._live is None and now - self._told >= _EVERY:
            self._told = now
            output.remark(f"{self._verb}: {self._facts()}")

    def _facts(self) -> str:
        rate = self._came / max(time.monotonic() - self._started, 1e-6)
        facts = f"{human_bytes(self._bytes)} read so far, {human_rate(rate)}"
        return f"{self._verb}: {facts}" if self._narrow else facts
