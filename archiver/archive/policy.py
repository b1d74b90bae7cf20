"""The policy: what the owner of an archive wants of it, kept in the journal (``docs/format.md``, 8.2)."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from archiver.archive.accepted import Accepted
from archiver.archive.finding import ACCEPTABLE

Level = Literal["structure", "stored", "content", "files"]
"""How deep an audit goes; each level proves what those before it prove, and more."""

_COPY_DAYS: Final = 90
"""For how long a copy counts where nobody said anything."""


class Policy(msgspec.Struct, frozen=True):
    """What is wanted; the defaults want nothing beyond what every archive is.

    Attributes:
        copies: In how many places each snapshot should lie, this archive included.
        audit_days: Every pack should be proven again within so many days; 0: no matter when.
        audit_level: At which level at least.
        copy_days: A copy counts for so many days after it was last proven where it lies; 0: for
            ``audit_days``, or for 90 days if that is 0 too.
        parity: Parity blocks for each group of blocks; 0: none are wanted.
        parity_group: Data blocks of a group, at most.
        append_only: Nothing is ever deleted. Once wanted, it stays wanted.
        signed: Every seal and manifest should have a signature by one of ``keys``.
        keys: The public keys that are trusted, in minisign's base64.
        accepted: What a smoke test may find without failing, by name.
    """

    copies: int = 1
    audit_days: int = 0
    audit_level: Level = "content"
    parity: int = 0
    parity_group: int = 32
    append_only: bool = False
    signed: bool = False
    keys: tuple[str, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    copy_days: int = 0

    @property
    def copy_age_days(self) -> int:
        """For how many days a proof of a copy counts."""
        return self.copy_days or self.audit_days or _COPY_DAYS

    def codes_accepted_of(self, repository: str, revision: str) -> frozenset[str]:
        """The codes of findings that are accepted of a snapshot of this revision."""
        found = {one.code for one in self.accepted if one.is_of(repository, revision)}
        return frozenset(found & ACCEPTABLE)
