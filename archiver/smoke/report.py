"""What a smoke test found: one record for each level, and one for the whole."""

from __future__ import annotations

from typing import Any

import msgspec

from archiver.archive.findings import Finding
from archiver.errors import ArchiverError, ExitCode
from archiver.smoke.levels import Level, Verdict


class Proof(msgspec.Struct, frozen=True):
    """What a level that ran came to. Without findings (but remarks) it held.

    Attributes:
        proved: What was seen to hold, a short sentence each.
        findings: What was wrong, and remarks.
        facts: Numbers and names for ``--json`` and the receipt; JSON values, no floats (figures that
            are not whole are texts).
    """

    proved: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = {}

    def accepting(self, codes: frozenset[str]) -> Proof:
        """Return it with the findings marked that the owner accepts."""
        findings = tuple(
            msgspec.structs.replace(one, accepted=True) if one.code in codes else one
            for one in self.findings
        )
        return msgspec.structs.replace(self, findings=findings)


class LevelReport(msgspec.Struct, frozen=True):
    """How one level ended; ``reason`` says why it was skipped or does not apply."""

    level: Level
    verdict: Verdict
    seconds: float
    proved: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    hint: str = ""
    facts: dict[str, Any] = {}

    @classmethod
    def of(cls, level: Level, proof: Proof, seconds: float) -> LevelReport:
        """Return the report of a level that ran: it failed if a finding is more than a remark."""
        return cls(
            level,
            "failed" if any(not finding.remark for finding in proof.findings) else "held",
            seconds,
            proved=proof.proved,
            findings=proof.findings,
            facts=proof.facts,
        )


class SmokeReport(msgspec.Struct, frozen=True):
    """A whole smoke test.

    Attributes:
        title: ``Org/Name@revision``, or the folder.
        levels: Those that were to be run, in order. After the first that failed or was skipped the
            ones that need it are skipped too.
        fit: How the model fits into this machine, as text lines; empty if it was not looked at.
        environment: Versions of libraries and what the machine is.
    """

    title: str
    levels: tuple[LevelReport, ...]
    fit: tuple[str, ...] = ()
    environment: dict[str, Any] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all levels."""
        return tuple(finding for level in self.levels for finding in level.findings)

    @property
    def held(self) -> bool:
        """Whether every level that was to be run did hold, or does not apply."""
        return all(one.verdict in {"held", "inapplicable"} for one in self.levels)

    @property
    def exit_code(self) -> ExitCode:
        """0 if it held, 25 if a level failed, else 4: a level that was asked for could not run."""
        if self.held:
            return ExitCode.OK
        failed = any(one.verdict == "failed" for one in self.levels)
        return ExitCode.SMOKE_FAILED if failed else ExitCode.SKIPPED


class InapplicableError(ArchiverError):
    """Such a model has nothing that the level could test; the message says why."""


class FailedError(ArchiverError):
    """A level cannot go on because of what it found; what is wrong stands in ``findings``."""

    exit_code = ExitCode.SMOKE_FAILED

    def __init__(self, *findings: Finding) -> None:
        super().__init__(findings[0].message, hint=findings[0].hint)
        self.findings = findings
