"""How ``smoke-test``, ``restore`` and ``audit`` print a smoke test, and its progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.cli import output
from archiver.cli.findings import hint_of, message_of, placed, record_all, show_all
from archiver.cli.options import worker_count
from archiver.cli.progress import Meter
from archiver.errors import DeniedError
from archiver.text import human_bytes, human_duration, human_rate, printable

if TYPE_CHECKING:
    from archiver.archive.findings import Finding
    from archiver.operations.smoke_test import SmokeOptions, SmokeTest
    from archiver.smoke.report import Level, LevelReport


_MARKS: Final = {"held": "✓", "failed": "✗", "skipped": "-", "inapplicable": "·"}
_LONGEST: Final = 2000
_LIBRARIES: Final = ("torch", "transformers")
"""Libraries whose versions are printed; --json and the receipt have all of them."""


def smoke_options(**settings: Any) -> SmokeOptions:
    """Return the options of a smoke test that is printed as it goes."""
    from archiver.operations.smoke_test import SmokeOptions

    return SmokeOptions(workers=worker_count(), on_fit=print_fit, on_level=print_level, **settings)


def print_level(level: LevelReport) -> None:
    """Print how a level ended, at once: a test that is killed has then said what it knew."""
    output.record("level", **msgspec.to_builtins(level))
    _show_level(level)
    output.flush()


def print_fit(lines: tuple[str, ...]) -> None:
    """Print how the model fits, above the progress: it is known long before the rest is."""
    for line in lines:
        output.remark(printable(line, _LONGEST))


def print_smoke_test(test: SmokeTest, *, recorded: bool = False) -> None:
    """Print what is left once the levels were printed, then end with the exit code.

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
        output.hint(test.advice, 0)
    output.line(_made_by(test))
    output.line(_verdict(test))
    if report.exit_code:
        output.exit_with(report.exit_code)
    if recorded and not test.recorded:
        raise DeniedError(
            f"The golden record could not be kept: {test.unkept}",
            hint="Name a new file for it with --golden.",
        )


def _show_level(level: LevelReport) -> None:
    mark = _MARKS[level.verdict]
    if level.verdict in {"held", "failed"}:
        output.line(f"{mark} {level.level}: {level.verdict} ({human_duration(level.seconds)})")
    else:
        word = "skipped" if level.verdict == "skipped" else "does not apply"
        output.line(f"{mark} {level.level}: {word}: {printable(level.reason, _LONGEST)}")
        if level.hint:
            output.hint(level.hint)
    for proved in level.proved:
        output.line(f"    {printable(proved, _LONGEST)}")
    show_all(finding for finding in level.findings if not finding.remark)
    for finding in level.findings:
        if finding.remark:
            _show_remark(finding)


def _show_remark(finding: Finding) -> None:
    word = "accepted by the policy" if finding.accepted else "remark"
    code = finding.code if not finding.accepted else placed(finding)
    output.line(f"    {word}: {code}: {printable(message_of(finding), _LONGEST)}")
    if (hint := hint_of(finding)) and not finding.accepted:
        output.hint(hint, 6)


def _made_by(test: SmokeTest) -> str:
    """Return with which versions, on what machine, and where the receipt is."""
    environment = test.report.environment
    libraries = environment.get("libraries", {})
    versions = [f"{name} {libraries[name]}" for name in _LIBRARIES if name in libraries]
    machine = [f"Python {environment['python']}", environment["system"], environment["cpu"]]
    receipt = f" Receipt: event {test.event[:16]} of the journal." * bool(test.event)
    return f"With {printable(', '.join([*versions, *machine]), _LONGEST)}.{receipt}"


def _verdict(test: SmokeTest) -> str:
    report = test.report
    title = printable(report.title, _LONGEST)
    failed = [level.level for level in report.levels if level.verdict == "failed"]
    skipped = [level.level for level in report.levels if level.verdict == "skipped"]
    if failed:
        return f"DOES NOT HOLD: {title}: {_named(failed)} failed."
    if skipped:
        return f"NOT SHOWN: {title}: {_named(skipped)} could not run."
    recorded = f" Recorded: {', '.join(map(printable, test.recorded))}." * bool(test.recorded)
    return f"{_word(test)}: {title}: {_ran(test)}{_accepted(test)}.{recorded}"


def _accepted(test: SmokeTest) -> str:
    """Return the codes of findings that failed nothing, so that the last line does not hide them."""
    codes = sorted({finding.code for finding in test.report.findings if finding.accepted})
    return f"; accepted by the policy: {', '.join(codes)}" * bool(codes)


def _named(levels: list[Level]) -> str:
    return f"level{'s' * (len(levels) > 1)} {', '.join(levels)}"


def _word(test: SmokeTest) -> str:
    """Return what was shown; a model that only had its headers read was not seen to run."""
    held = {level.level for level in test.report.levels if level.verdict == "held"}
    return "It runs" if "forward" in held else "It loads" if "load" in held else "It is sound"


def _ran(test: SmokeTest) -> str:
    held = ", ".join(level.level for level in test.report.levels if level.verdict == "held")
    how = " ".join(part for part in (test.run.mode, test.run.dtype, test.run.device) if part)
    return f"{held} held" + (f" ({how})" if test.run.mode else "")


_EVERY: Final = 60.0
"""Seconds between two lines where there is no terminal: a long silence means that it is stuck."""


class SmokeMeter(Meter):
    """Shows bytes read in a level: live on a terminal, else a line about once a minute."""

    def __init__(self) -> None:
        super().__init__("Starting the smoke test", "tensors")
        self._shown = self._started

    def phase(self, verb: str) -> None:
        """Begin another level."""
        self._shown = time.monotonic()
        super().phase(verb)

    def advance(self, count: int, *, fetched: bool) -> None:
        """Count bytes that were read; all of them count for the rate."""
        super().advance(count, fetched=fetched or count > 0)
        now = time.monotonic()
        if self._live is None and now - self._shown >= _EVERY:
            self._shown = now
            output.remark(f"{self._verb}: {self._facts()}")

    def _facts(self) -> str:
        rate = human_rate(self._came, time.monotonic() - self._started)
        facts = f"{human_bytes(self._bytes)} read so far, {rate}"
        return f"{self._verb}: {facts}" if self._narrow else facts
