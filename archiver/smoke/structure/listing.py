"""Many findings of one kind: the first few by name, the rest as a number."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Code, Finding
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST: Final = 20
"""So many findings of one kind have a line of their own."""


def shortened(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first ``MOST``; then one that counts the others, which are of the same code."""
    rest = iter(findings)
    first = tuple(islice(rest, MOST))
    yield from first
    if more := sum(1 for _ in rest):
        yield counted(first[0].code, first[0].path, more)


def counted(code: Code, path: str, more: int) -> Finding:
    """What stands for findings that are not listed."""
    return Finding(code, f"The same is wrong with {plural(more, 'more', 'more')}.", path=path)
