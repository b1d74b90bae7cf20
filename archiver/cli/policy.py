"""``archiver policy``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import Duration, common, open_archive
from archiver.cli.snapshots import facts
from archiver.errors import skip_damaged
from archiver.text import plural

if TYPE_CHECKING:
    from archiver.archive.policy import Level, Policy

_DAY = 86400
_BLOCKS = 256
_AGE = "each proven within {days}"


class Parity(click.ParamType[tuple[int, int | None]]):
    """Parity blocks for each group and, if given, data blocks of a group: ``2`` or ``2/32``."""

    name = "P[/K]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int | None]:
        """Return the two numbers; a usage error if they are none, or too large."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([0-9]{1,3})(?:/([0-9]{1,3}))?", value)
        if not match:
            self.fail(f"{value[:80]!r} is not P or P/K, such as 2 or 2/32.", param, ctx)
        parity, group = int(match[1]), int(match[2]) if match[2] else None
        if parity > _BLOCKS // 2 or (group is not None and not 1 <= group <= _BLOCKS - parity):
            self.fail("P is at most 128, K at least 1, and P + K at most 256.", param, ctx)
        return parity, group


class Age(Duration):
    """A duration of whole days, rounded down, so that nothing is looser than what was typed."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the number of seconds: 0, or those of a day at least; a usage error otherwise."""
        seconds = super().convert(value, param, ctx)
        if 0 < seconds < _DAY:
            self.fail(f"{value} is less than a day; 0d is: no matter when.", param, ctx)
        return seconds


@click.group(
    invoke_without_command=True,
    epilog="Example: archiver policy set -C weights --copies 2 --audit-age 30d --parity 2",
)
@common
def command() -> None:
    """Show or set what is wanted of the archive: copies, audits, parity, signatures.

    'archiver status' says what falls short of it.
    """
    if click.get_current_context().invoked_subcommand is None:
        _show(open_archive().policy())


@command.command("set", epilog="Example: archiver policy set -C weights --copies 2 --parity 2")
@click.option(
    "--copies",
    type=click.IntRange(1, 1000),
    help="In how many places each snapshot should lie, this one included.",
)
@click.option(
    "--audit-age",
    type=Age(),
    help="Prove every pack again within this time, such as 30d; 0d: at any time.",
)
@click.option(
    "--audit-level",
    type=click.Choice(["structure", "stored", "content", "files"]),
    help="The least level of such a proof.",
)
@click.option(
    "--copy-age",
    type=Age(),
    help="How long a copy counts after it was last proven; 0d: as --audit-age, else 90 days.",
)
@click.option(
    "--parity", type=Parity(), help="Parity blocks for each group of K data blocks; 0: none."
)
@click.option("--append-only", is_flag=True, help="Never delete anything. This is for good.")
@click.option(
    "--require-signatures/--no-require-signatures",
    "signed",
    default=None,
    help="Whether every seal and manifest should be signed by a trusted key.",
)
@click.option(
    "--trust", metavar="KEY|FILE", multiple=True, help="A public key to trust; repeatable."
)
@click.option(
    "--distrust",
    metavar="KEYID",
    multiple=True,
    help="A key that is trusted no longer; repeatable.",
)
@click.option(
    "--accept",
    metavar="REPO[@REVISION]:CODE",
    multiple=True,
    help="A finding of smoke tests that is upstream's own doing: reported, but no failure; repeatable.",
)
@click.option(
    "--reject",
    metavar="REPO[@REVISION]:CODE",
    multiple=True,
    help="A finding that is accepted no longer; repeatable.",
)
@common
def set_(
    copies: int | None,
    audit_age: int | None,
    audit_level: Level | None,
    copy_age: int | None,
    parity: tuple[int, int | None] | None,
    append_only: bool,
    signed: bool | None,
    trust: tuple[str, ...],
    distrust: tuple[str, ...],
    accept: tuple[str, ...],
    reject: tuple[str, ...],
) -> None:
    """Change what is wanted of the archive; what is not named stays.

    The policy is an event of the journal. Append-only cannot be taken back.
    """
    from archiver.archive.policy import parse_accepted
    from archiver.operations.policy import PolicyChange, change_policy

    change = PolicyChange(
        copies=copies,
        audit_days=None if audit_age is None else audit_age // _DAY,
        audit_level=audit_level,
        copy_days=None if copy_age is None else copy_age // _DAY,
        parity=parity[0] if parity else None,
        parity_group=parity[1] if parity else None,
        append_only=append_only or None,
        signed=signed,
        trust=trust,
        distrust=distrust,
        accept=accept,
        reject=reject,
    )
    if change == PolicyChange():
        raise click.UsageError("Nothing to change was named.")
    archive = open_archive()
    policy, changed = change_policy(archive, change)
    _show(policy)
    for accepted in map(parse_accepted, accept):
        # What is about nothing that is held may be mistyped.
        held = archive.snapshots_of(accepted.repository, on_damage=skip_damaged)
        if not any(accepted.is_of(accepted.repository, each.seal.revision) for each in held):
            output.remark(f"{accepted} is about no snapshot that is held now.")
    if not changed:
        output.remark("That was the policy before, too: nothing was journalled.")
    elif append_only:
        output.remark("Append-only is for good: no later policy takes it back.")


def _show(policy: Policy) -> None:
    output.record("policy", **msgspec.to_builtins(policy))
    when = f"every {plural(policy.audit_days, 'day')}" if policy.audit_days else "no matter when"
    per = f"{policy.parity} for each {plural(policy.parity_group, 'data block')}"
    facts(
        [
            ("copies", f"{policy.copies}, {_AGE.format(days=plural(policy.copy_age_days, 'day'))}"),
            ("audit", f"{policy.audit_level}, {when}"),
            ("parity", per if policy.parity else "none"),
            ("append-only", "yes, for good" if policy.append_only else "no"),
            ("signatures", "required" if policy.signed else "not required"),
            *(("trusted key", key) for key in policy.keys),
            *(("accepted", str(accepted)) for accepted in policy.accepted),
        ]
    )
