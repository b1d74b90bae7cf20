"""What the archive's policy accepts of a snapshot, and what may be said of that after a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.advice import command
from archiver.archive.findings import Code
from archiver.errors import DamageError

if TYPE_CHECKING:
    from archiver.operations.smoke_test.origin import Origin
    from archiver.smoke.report import SmokeReport

_REVISION: Final = 12
_HARMLESS: Final = frozenset[Code](
    {"model-index", "model-mtp", "model-special-token", "model-chat-template"}
)
"""Of a model with one of these alone the other levels are worth running: to accept it is proposed."""


class Accepting(NamedTuple):
    """Codes that are accepted; ``remark`` says why none are where the policy cannot be read."""

    codes: frozenset[str]
    remark: str = ""


def accepting(origin: Origin | None) -> Accepting:
    """What is accepted of the snapshot; nothing of a folder that comes from no archive."""
    if origin is None:
        return Accepting(frozenset())
    try:
        policy = origin.archive.policy()
    except DamageError as error:
        return Accepting(frozenset(), f"{error.message} So nothing is accepted by it.")
    seal = origin.snapshot.seal
    return Accepting(policy.codes_accepted_of(seal.repository, seal.revision))


def advice(origin: Origin | None, report: SmokeReport, known: Accepting) -> str:
    """How to end the alarm, where nothing failed but what may be accepted; or why that did not end it."""
    failed = sorted({one.code for one in report.findings if not one.remark})
    if origin is None or not failed:
        return ""
    if known.codes.issuperset(failed):
        codes = ", ".join(failed)
        return f"The policy accepts {codes}, but a level that cannot go on fails all the same."
    if not _HARMLESS.issuperset(failed):
        return ""
    seal = origin.snapshot.seal
    at = f"{seal.repository}@{seal.revision[:_REVISION]}"
    words = [word for code in failed for word in ("--accept", f"{at}:{code}")]
    accept = command("policy set", origin.archive.store.describe(), *words)
    return f"If upstream published it so, {accept} accepts it, and later tests go on."
