"""Policy: what the owner wants of an archive, shown and changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive.check.proofs import readable_events
from archiver.archive.clock import next_time
from archiver.archive.events import new_event
from archiver.archive.journal import policy_of
from archiver.archive.policy import Accepted, Level, Policy, parse_accepted
from archiver.archive.signing.keys import public_keys
from archiver.errors import UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive

_LONGEST: Final = 2000


class PolicyChange(msgspec.Struct, frozen=True):
    """What is to be different; None and empty: as it is.

    ``trust`` are public keys or files of one, ``distrust`` ids of keys. ``append_only`` is for good.
    ``accept`` and ``reject`` are of the form ``REPO[@REVISION]:CODE``.
    """

    copies: int | None = None
    audit_days: int | None = None
    audit_level: Level | None = None
    copy_days: int | None = None
    parity: int | None = None
    parity_group: int | None = None
    append_only: bool | None = None
    signed: bool | None = None
    trust: tuple[str, ...] = ()
    distrust: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()


class PolicyReport(NamedTuple):
    """The policy as it is now, and whether that is another than before."""

    policy: Policy
    changed: bool


def change_policy(archive: Archive, change: PolicyChange) -> PolicyReport:
    """Journal the changed policy, if that is another than before.

    Raise UsageError for a key that is none, if signatures are wanted by no key, and for a finding that
    cannot be accepted or was not.
    """
    archive.require_writable()
    events = list(readable_events(archive.journal))
    before = policy_of(events)
    after = _changed(before, change)
    if after.signed and not after.keys:
        raise UsageError(
            "Signatures cannot be required while no key is trusted.",
            hint="Name a public key with --trust; 'archiver keys new PATH' makes one.",
        )
    if after == before:
        return PolicyReport(before, changed=False)
    archive.record(new_event(after, time=next_time(events)))
    return PolicyReport(after, changed=True)


def _changed(before: Policy, change: PolicyChange) -> Policy:
    fields = msgspec.structs.asdict(change)
    for lists in ("trust", "distrust", "accept", "reject"):
        del fields[lists]
    fields = {name: value for name, value in fields.items() if value is not None}
    # Once wanted, append-only stays wanted.
    fields["append_only"] = before.append_only or bool(change.append_only)
    fields["keys"] = _keys(before.keys, change)
    fields["accepted"] = _accepted(before.accepted, change)
    return msgspec.structs.replace(before, **fields)


def _keys(before: tuple[str, ...], change: PolicyChange) -> tuple[str, ...]:
    """Return the trusted keys: first those of before that stay, then the new ones."""
    trusted = {key.id: key.text for key in public_keys(before)}
    for text in change.distrust:
        if trusted.pop(text.lower(), None) is None:
            held = ", ".join(trusted) or "none"
            raise UsageError(f"No key {printable(text, 80)!r} is trusted; trusted are {held}.")
    keys = tuple(trusted.values())
    added = [key.text for key in public_keys(change.trust) if key.text not in keys]
    # Two keys of one id would stand in each other's way: a signature names its key by the id.
    texts: dict[str, str] = {}
    for key in public_keys((*keys, *added)) if added else ():
        if texts.setdefault(key.id, key.text) != key.text:
            raise UsageError(
                f"{texts[key.id]} is trusted as the key {key.id}; {key.text} has the same id.",
                hint=f"Was it typed wrong? To change it, add --distrust {key.id}.",
            )
    return (*keys, *added)


def _accepted(before: tuple[Accepted, ...], change: PolicyChange) -> tuple[Accepted, ...]:
    """Return what is accepted, each once and by name: the first of those that say the same."""
    stays = {str(accepted).casefold(): accepted for accepted in before}
    for (
        text
    ) in change.reject:  # as it is shown: a newer version may know codes that this one does not
        if stays.pop(text.casefold(), None) is None:
            parse_accepted(text)
            held = printable(", ".join(map(str, before)), _LONGEST)
            hint = f"Accepted are: {held}." if before else "Nothing is."
            raise UsageError(f"{printable(text)} is not accepted.", hint=hint)
    distinct: dict[tuple[str, ...], Accepted] = {}
    for accepted in (*stays.values(), *map(parse_accepted, change.accept)):
        distinct.setdefault(accepted.key, accepted)
    return tuple(distinct[key] for key in sorted(distinct))
