"""Runs the levels of a smoke test in order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.errors import SkippedError
from archiver.smoke.golden.check import check_golden
from archiver.smoke.guard import too_large
from archiver.smoke.hardware import environment
from archiver.smoke.interruption import Interruption
from archiver.smoke.levels import Level
from archiver.smoke.loading.check import check_load
from archiver.smoke.passes.forward import check_forward
from archiver.smoke.passes.generate import check_generate
from archiver.smoke.report import FailedError, InapplicableError, LevelReport, Proof, SmokeReport
from archiver.smoke.scratch import scratch
from archiver.smoke.structure.check import check_structure
from archiver.smoke.tokens.check import check_tokenizer
from archiver.smoke.trial import Trial, Wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from archiver.progress import Progress
    from archiver.smoke.checkpoint.protocol import Checkpoint

_CHECKS: Final[dict[Level, Callable[[Trial], Proof]]] = {
    "structure": check_structure,
    "tokenizer": check_tokenizer,
    "load": check_load,
    "forward": check_forward,
    "generate": check_generate,
    "golden": check_golden,
}
_NEEDS: Final[dict[Level, tuple[Level, ...]]] = {
    "structure": (),
    "tokenizer": (),
    "load": ("structure",),
    "forward": ("load",),
    "generate": ("forward",),
    "golden": ("load",),
}
"""A level runs only after these held: what it would say otherwise is worth nothing."""
_OF_FILES: Final = frozenset[Level]({"structure", "tokenizer"})


def run(
    checkpoint: Checkpoint,
    levels: Sequence[Level],
    wishes: Wishes,
    progress: Progress,
    on_fit: Callable[[tuple[str, ...]], None] | None = None,
    on_level: Callable[[LevelReport], None] | None = None,
) -> tuple[SmokeReport, Trial]:
    """Run ``levels``; the report, and the trial with what was recorded.

    ``on_fit`` is told how the model fits into this machine before anything large is read,
    ``on_level`` how each level ended as soon as it has.

    Raises:
        DamageError: The archive, not the model, is damaged.
        ArchiverError: No folder for temporary files can be written to.
    """
    with Interruption() as interruption, scratch() as folder:
        trial = Trial(checkpoint, wishes, progress, folder, on_fit=on_fit)
        found: dict[Level, LevelReport] = {}
        for level in levels:
            found[level] = _run_level(level, trial, found)
            interruption.check()
            if on_level is not None:
                on_level(found[level])
    report = SmokeReport(checkpoint.title, tuple(found.values()), trial.fit, environment())
    return report, trial


def _left_out(level: Level, needed: LevelReport) -> LevelReport:
    if needed.verdict == "inapplicable":
        return LevelReport(level, "inapplicable", 0.0, reason=needed.reason)
    return LevelReport(level, "skipped", 0.0, reason=f"Level {needed.level} did not hold.")


def _checked(level: Level, trial: Trial) -> Proof:
    try:
        return _CHECKS[level](trial)
    except MemoryError as error:
        raise too_large(f"Level {level}") from error


def _accepting(proof: Proof, level: Level, wishes: Wishes) -> Proof:
    """With what the owner accepts marked so; only of levels that look at what upstream published."""
    if level not in _OF_FILES:
        return proof
    findings = [
        msgspec.structs.replace(one, accepted=True) if one.code in wishes.accepted else one
        for one in proof.findings
    ]
    return msgspec.structs.replace(proof, findings=tuple(findings))


def _run_level(level: Level, trial: Trial, before: dict[Level, LevelReport]) -> LevelReport:
    for needed in _NEEDS[level]:
        if needed in before and before[needed].verdict != "held":
            return _left_out(level, before[needed])
    started = time.monotonic()
    trial.progress.phase(f"Checking {level}")
    try:
        proof = _checked(level, trial)
    except SkippedError as error:
        spent = time.monotonic() - started
        return LevelReport(level, "skipped", spent, reason=error.message, hint=error.hint)
    except InapplicableError as error:
        return LevelReport(level, "inapplicable", 0.0, reason=error.message)
    except FailedError as error:
        proof = Proof((), error.findings)
    else:
        proof = _accepting(proof, level, trial.wishes)
    failed = any(not finding.remark for finding in proof.findings)
    return LevelReport(
        level,
        "failed" if failed else "held",
        time.monotonic() - started,
        proved=proof.proved,
        findings=proof.findings,
        facts=proof.facts,
    )
