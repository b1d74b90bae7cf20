"""Policy: what the owner wants of an archive, shown and changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.check.history import readable_events
from archiver.archive.clock import next_time
from archiver.archive.events import new_event
from archiver.archive.journal import policy_of
from archiver.archive.policy import Accepted, Level, Policy, merged, parse_accepted
from archiver.archive.signing.keys import public_keys
from archiver.errors import UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def change_policy(archive: Archive, change: PolicyChange) -> tuple[Policy, bool]:
    """Journal the changed policy; what it is now, and whether that is another than before.

    Raises UsageError for a key that is none, if signatures are wanted by no key, and for a finding that
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
        return before, False
    archive.record(new_event(after, time=next_time(events)))
    return after, True


def _changed(before: Policy, change: PolicyChange) -> Policy:
    plain = msgspec.structs.asdict(change)
    trust, distrust = plain.pop("trust"), plain.pop("distrust")
    accept, reject = plain.pop("accept"), plain.pop("reject")
    wanted = {key: value for key, value in plain.items() if value is not None}
    # Once wanted, append-only stays wanted.
    wanted["append_only"] = before.append_only or bool(change.append_only)
    keys = _without(before.keys, distrust)
    added = [key.text for key in public_keys(trust) if key.text not in keys] if trust else []
    if added:
        _require_other_ids((*keys, *added))
    wanted["accepted"] = _accepted(before.accepted, accept, reject)
    return msgspec.structs.replace(before, **wanted, keys=(*keys, *added))


def _accepted(
    before: tuple[Accepted, ...], accept: Iterable[str], reject: Iterable[str]
) -> tuple[Accepted, ...]:
    known = {str(one).casefold(): one for one in before}
    for text in reject:  # as it is shown, whatever its code: a newer version may know more of them
        if known.pop(text.casefold(), None) is None:
            parse_accepted(text)
            held = printable(", ".join(map(str, before)), _LONGEST)
            hint = f"Accepted are: {held}." if before else "Nothing is."
            raise UsageError(f"{printable(text)} is not accepted.", hint=hint)
    return merged((*known.values(), *map(parse_accepted, accept)))


def _require_other_ids(keys: tuple[str, ...]) -> None:
    """Two keys of one id would stand in each other's way: a signature names its key by the id."""
    seen: dict[str, str] = {}
    for key in public_keys(keys) if keys else ():
        if seen.setdefault(key.id, key.text) != key.text:
            raise UsageError(
                f"{seen[key.id]} is trusted as the key {key.id}; {key.text} has the same id.",
                hint=f"Was it typed wrong? To change it, add --distrust {key.id}.",
            )


def _without(keys: tuple[str, ...], distrusted: Iterable[str]) -> tuple[str, ...]:
    known = {key.id: key.text for key in public_keys(keys)} if keys else {}
    for text in distrusted:
        if known.pop(text.lower(), None) is None:
            held = ", ".join(known) or "none"
            raise UsageError(f"No key {printable(text, 80)!r} is trusted; trusted are {held}.")
    return tuple(known.values())
