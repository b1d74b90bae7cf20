"""What of a model the owner accepts as upstream's own doing (``docs/format.md``, 8.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from archiver.archive.finding import ACCEPTABLE, Code
from archiver.errors import UsageError
from archiver.names import as_repo_id
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_REVISION: Final = re.compile(r"[0-9a-f]{7,40}")
_SHOWN: Final = 200


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
        """As it is typed."""
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repository}{at}:{self.code}"

    @property
    def key(self) -> tuple[str, ...]:
        """Equal of two that say the same."""
        return (self.repository.casefold(), self.revision, self.code)

    def is_of(self, repository: str, revision: str) -> bool:
        """Whether it is about this revision of this repository."""
        same = self.repository.casefold() == repository.casefold()
        return same and revision.startswith(self.revision)


def parse_accepted(text: str) -> Accepted:
    """``REPO[@REVISION]:CODE``, its form alone: it may tell of what is yet to be mirrored.

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
            "7 to 40 hexadecimal digits."
        )
    if code not in ACCEPTABLE:
        raise _unacceptable(code)
    return Accepted(as_repo_id(repository), revision, code)


def merged(accepted: Iterable[Accepted]) -> tuple[Accepted, ...]:
    """Each once, by name: the first of those that say the same."""
    found: dict[tuple[str, ...], Accepted] = {}
    for one in accepted:
        found.setdefault(one.key, one)
    return tuple(found[key] for key in sorted(found))


def _unacceptable(code: str) -> UsageError:
    known = ", ".join(one for one in get_args(Code) if one in ACCEPTABLE)
    told = printable(code, _SHOWN)
    message = f"{told!r} is no code of a finding."
    if code in get_args(Code):
        message = f"{code} cannot be accepted: it is no fault that a model may have and still run."
    return UsageError(message, hint=f"Those that can be accepted are {known}.")
