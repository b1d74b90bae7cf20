"""``archiver status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.archive.advice import quoted
from archiver.cli import output
from archiver.cli.findings import record_all, show_all
from archiver.cli.options import (
    common,
    key_option,
    open_archive,
    print_limits,
)
from archiver.errors import ExitCode
from archiver.report.words import by_receipt, described, medium, reason, sentence, verdict
from archiver.text import human_bytes, human_share, plural, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.plans import PlanStatus
    from archiver.operations.status.report import (
        LastAudit,
        Shortfall,
        SmokeTestState,
        Status,
    )


_SHORT: Final = 16
_REVISION: Final = 12
_NAMED: Final = 3
"""Snapshots that a line names; --json names them all."""


@click.command(epilog="Example: archiver status -C weights --packs")
@click.option("--packs", is_flag=True, help="Also every pack: when it was last proven, and how.")
@click.option("--copies", is_flag=True, help="Also every place that holds copies.")
@key_option
@common
def command(packs: bool, copies: bool, keys: tuple[str, ...]) -> None:
    """Show what is proven, copied, protected, and what falls short.

    Reads names, seals and the journal only, and looks whether copies are where they should be. The
    verdict comes first, then what falls short of policy and plans, each with the next command, then
    what is known to be lost upstream, then the figures. Exits with 24 if something falls short, with 4
    if this user may not read some of it.
    'archiver policy' says what is wanted.
    """
    from archiver.operations.status.run import status as look

    archive = open_archive(reading=True)
    status = look(archive, keys=keys)
    _records(status, packs=packs, copies=copies)
    _verdict(status)
    _summary(status, copies=copies)
    if packs:
        _pack_table(status)
    if copies:
        _place_table(status)
    print_limits(archive.store)
    if status.findings:
        output.remark("What may not be read is not in these figures. Check the permissions.")
        # Of what may not be read nothing is known, and proofs may seem to lack; damage is known.
        code = ExitCode.POLICY_UNMET if status.damaged else ExitCode.SKIPPED
        output.exit_with(code)
    if status.shortfalls:
        output.exit_with(ExitCode.POLICY_UNMET)


def _verdict(status: Status) -> None:
    """Print whether all is as it is wanted; what is not, and what is known, a line each."""
    said = verdict(
        short=len(status.shortfalls),
        unread=bool(status.findings),
        snapshots=status.snapshots,
        packs=status.packs,
        size=status.bytes,
        missing=status.missing,
    )
    output.line(str(said))
    show_all(status.findings)
    for shortfall in status.shortfalls:
        _shortfall("SHORT", shortfall)
    for fact in status.lost_upstream:
        name = "" if fact.name == "main" else f"@{printable(fact.name)}"
        known = ", as is known" if fact.acknowledged else ""
        what = f"{printable(fact.repository)}{name}"
        output.line(f"Gone upstream since {printable(fact.since)}{known}: {what}; it is held here.")
    for remark in status.remarks:
        _shortfall("remark", remark)


def _shortfall(word: str, shortfall: Shortfall) -> None:
    output.line(f"{word}: {printable(sentence(shortfall), 2000)}")
    output.line(f"    → Run {printable(quoted(*shortfall.commands), 2000)}.")


def _records(status: Status, *, packs: bool, copies: bool) -> None:
    record_all(status.findings)
    fields = msgspec.to_builtins(status)
    del fields["findings"]
    lists = {key: fields.pop(key) for key in ("pack_list", "places", "shortfalls", "plans")}
    fields["remarks"] = [described(remark) for remark in status.remarks]
    for pack in lists["pack_list"] if packs else []:
        output.record("pack", **pack)
    for place in lists["places"] if copies else []:
        output.record("place", **place)
    for plan in lists["plans"]:
        output.record("plan", **plan)
    for shortfall in status.shortfalls:
        output.record("shortfall", **described(shortfall))
    output.record("status", met=not status.shortfalls and not status.findings, **fields)


def _summary(status: Status, *, copies: bool) -> None:
    packs = plural(status.packs, "pack")
    for plan in status.plans:
        _plan(plan)
    days = status.policy.audit_days
    within = f"WITHIN {days} D" if days else "EVER"
    rows = [
        (
            level.level,
            f"{level.recent_packs:,}",
            human_share(level.recent_bytes, status.bytes),
            f"{level.never:,}",
            level.oldest or "-",
        )
        for level in status.coverage
    ]
    output.table(("PROVEN", within, "OF BYTES", "NEVER", "OLDEST PROOF"), rows, right=(1, 2, 3))
    if status.audit:
        _last_audit(status.audit)
    if status.vouched:
        counts = ", ".join(f"{who} {count:,}" for who, count in status.vouched.items())
        output.line(f"Snapshots by who vouched for all of their files: {counts}.")
    output.line(f"Files proven: {status.files_proven} of {plural(status.snapshots, 'snapshot')}.")
    share = human_share(status.bytes_with_parity, status.bytes)
    output.line(f"Parity: {status.with_parity} of {packs}, {share} of bytes.")
    if status.smoke_tests:
        _smoke_tests(status.smoke_tests)
    _copies(status, every=copies)
    if status.free >= 0:
        output.line(f"Room: {human_bytes(status.free)} free on the disk.")
    if status.trusted:
        output.line(f"Signatures: {plural(status.unsigned, 'document')} without.")


def _last_audit(audit: LastAudit) -> None:
    """Print how far the newest audit went."""
    of = "all"
    if audit.repository:
        of = printable(f"{audit.repository}@{audit.revision}".rstrip("@"))
    terms = [f"level {printable(audit.level)} of {of}"]
    if audit.sample:
        terms.append(
            f"a sample of {printable(audit.sample.share)} by the seed {printable(audit.sample.seed)}"
        )
    terms += [f"against {plural(audit.heads, 'kept head')}"] if audit.heads else []
    terms += [f"signatures by {plural(audit.keys, 'key')}"] if audit.keys else []
    terms += [f"{plural(audit.damaged, 'finding')} of damage"] if audit.damaged else []
    terms += ["something due left for later"] if audit.complete is False else []
    output.line(f"Last audit: {printable(audit.time)}, {', '.join(terms)}.")


def _plan(plan: PlanStatus) -> None:
    held = sum(bool(entry.snapshot) and entry.state != "unvouched" for entry in plan.entries)
    total = plural(len(plan.entries), "repository", "repositories")
    ran = f"last run {plan.ran}, exit {plan.exit_code}" if plan.ran else "no run came to its end"
    output.line(f"Plan {printable(plan.plan)}: {held:,} of {total} held; {ran}.")


def _smoke_tests(tests: Sequence[SmokeTestState]) -> None:
    """Print how many snapshots are known to run here, since when, and which are not."""
    held = [test.held for test in tests if test.held and test.tried == test.held]
    oldest = f", oldest {min(held)}" if held else ""
    output.line(f"Smoke tests: {len(held)} of {plural(len(tests), 'snapshot')} held{oldest}.")
    for word, group in (
        ("Did not hold, or could not run", [test for test in tests if test.tried > test.held]),
        ("Never run", [test for test in tests if not test.tried]),
    ):
        if group and any(test.tried for test in tests):
            names = [f"{printable(test.repository)}@{test.revision[:_REVISION]}" for test in group]
            more = f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
            output.line(f"  {word}: {', '.join(names[:_NAMED])}{more}.")


def _pack_table(status: Status) -> None:
    rows = [
        (
            pack.pack[:_SHORT],
            human_bytes(pack.size),
            pack.proven or "never",
            pack.level or "-",
            "yes" if pack.parity else "no",
            "" if pack.there and pack.needed else "no seal needs it" if pack.there else "MISSING",
        )
        for pack in status.pack_list
    ]
    output.table(("PACK", "SIZE", "PROVEN", "LEVEL", "PARITY", ""), rows, right=(1,))


def _place_table(status: Status) -> None:
    rows = [
        (
            place.place,
            f"{place.snapshots:,}",
            medium(place),
            place.seen or "never",
            place.proven or "never",
        )
        for place in status.places
    ]
    output.table(("PLACE", "SNAPSHOTS", "ON", "SEEN", "PROVEN SINCE"), rows, right=(1,))


def _copies(status: Status, *, every: bool) -> None:
    """Print in how many places each snapshot lies, and which places do not count, and why."""
    count = plural(status.copies, "place")
    output.line(f"Copies: each snapshot in {count} or more, proven within {status.copy_days} d.")
    for place in status.places:
        if told := by_receipt(place):
            output.line(f"  Told by receipt: {printable(place.place)}: {told}.")
        if why := reason(place):
            output.line(f"  Does not count: {printable(place.place)}: {why}.")
        elif place.standing == "counts" and place.medium == "unknown":
            output.line(f"  Counts, on a disk that is not known: {printable(place.place)}.")
        elif every and place.presence == "no-answer":
            output.line(f"  Gives no answer: {printable(place.place)}.")
