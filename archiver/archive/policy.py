"""The policy: what the owner of an archive wants, kept in the journal (``docs/format.md``, annex A.2).

That is how often and how deep to audit, how many copies, how much parity, whose signatures, and which
findings about a model are accepted as upstream's own doing.
"""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

import msgspec

from archiver.archive.findings import ACCEPTABLE, Code
from archiver.errors import UsageError
from archiver.names import as_repo_id
from archiver.text import printable

Level = Literal["structure", "stored", "content", "files"]
"""How deep an audit goes; each level proves what those before it prove, and more.

``structure``: everything is there, in its size, and every object is in an index. ``stored``: and every
pack has the digest that is its name. ``content``: and every object decodes to what it is named by.
``files``: and every file of every snapshot comes out of them with its own digests.
"""
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""The shallowest first."""

_COPY_DAYS: Final = 90
"""For how long a copy counts where nobody said anything."""
_REVISION: Final = re.compile(r"[0-9a-f]{7,64}")
_SHOWN: Final = 200


def proves(level: Level, other: Level) -> bool:
    """Return whether what was proven at ``level`` is proven at ``other``, too."""
    return LEVELS.index(level) >= LEVELS.index(other)


class Accepted(msgspec.Struct, frozen=True, order=True):
    """Findings of one code, in smoke tests of one repository, fail no level.

    Attributes:
        repository: ``Org/Name``; compared without case.
        revision: The beginning of a commit; ``""``: every revision.
        code: Of a finding. A newer writer may have written one that is not known here.
    """

    repository: str
    revision: str
    code: str

    def __str__(self) -> str:
        """Return it as it is typed."""
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repository}{at}:{self.code}"

    @property
    def key(self) -> tuple[str, ...]:
        """Equal of two that say the same."""
        return (self.repository.casefold(), self.revision, self.code)

    def is_of(self, repository: str, revision: str) -> bool:
        """Return whether it is about this revision of this repository."""
        same = self.repository.casefold() == repository.casefold()
        return same and revision.startswith(self.revision)


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
        """Return the codes of findings that are accepted of a snapshot of this revision."""
        codes = {
            accepted.code for accepted in self.accepted if accepted.is_of(repository, revision)
        }
        return frozenset(codes & ACCEPTABLE)


def parse_accepted(text: str) -> Accepted:
    """Read ``REPO[@REVISION]:CODE``, by its form alone: it may be about what is yet to be mirrored.

    Raises:
        UsageError: It has another form, or names a code that does not exist or cannot be accepted.
    """
    reference, colon, code = text.rpartition(":")
    repository, at, revision = reference.partition("@")
    if not (repository and colon and code):
        raise UsageError(f"{printable(text, _SHOWN)!r} is not REPO:CODE or REPO@REVISION:CODE.")
    revision = revision.lower()
    if at and not _REVISION.fullmatch(revision):
        raise UsageError(
            f"{printable(revision, _SHOWN)!r} is not a commit or the first digits of one: "
            "7 to 64 hexadecimal digits."
        )
    if code not in ACCEPTABLE:
        message = f"{printable(code, _SHOWN)!r} is no code of a finding."
        if code in get_args(Code):
            message = (
                f"{code} cannot be accepted: it is no fault that a model may have and still run."
            )
        acceptable = ", ".join(known for known in get_args(Code) if known in ACCEPTABLE)
        raise UsageError(message, hint=f"Those that can be accepted are {acceptable}.")
    return Accepted(as_repo_id(repository), revision, code)
