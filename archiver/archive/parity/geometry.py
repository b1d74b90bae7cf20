"""How a file is cut into blocks and its blocks dealt to groups (``docs/format.md``, section 10).

Arithmetic only: nothing here reads a byte.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from archiver.errors import UsageError

BLOCK_MAX: Final = 1 << 20
BLOCK_LEAST: Final = 4096
"""The smallest block that is written: what a disk loses at least. Any power of two is read."""
PARITY_MAX: Final = 128
MEMBERS_MAX: Final = 256
"""Data and parity blocks of one group together: the field has no more elements."""


class Shape(NamedTuple):
    """A file of ``size`` bytes in blocks of ``block`` bytes; each group has ``parity`` blocks more."""

    size: int
    block: int
    groups: int
    parity: int

    @property
    def data_count(self) -> int:
        """How many data blocks there are."""
        return -(-self.size // self.block)

    @property
    def parity_count(self) -> int:
        """How many parity blocks there are."""
        return self.groups * self.parity

    @property
    def parity_bytes(self) -> int:
        """How many bytes the parity blocks take."""
        return self.parity_count * self.block

    def members(self, group: int) -> range:
        """The numbers of a group's data blocks, in file order."""
        return range(group, self.data_count, self.groups)

    def parity_of(self, group: int) -> range:
        """The numbers of a group's parity blocks among all parity blocks."""
        return range(group * self.parity, (group + 1) * self.parity)

    def length(self, index: int) -> int:
        """How many bytes of data block ``index`` are the file's; the rest are zeros."""
        return min(self.block, self.size - index * self.block)

    @property
    def fault(self) -> str:
        """Why no file can be so shaped, as the rest of a sentence; empty if one can."""
        if self.size < 1 or not 1 <= self.block <= BLOCK_MAX or self.block & (self.block - 1):
            return "has blocks of an impossible size"
        if not 1 <= self.parity <= PARITY_MAX or not 1 <= self.groups <= self.data_count:
            return "has an impossible number of groups or of parity blocks"
        if -(-self.data_count // self.groups) + self.parity > MEMBERS_MAX:
            return "has groups of more blocks than there can be"
        return "" if self.parity_bytes < 1 << 32 else "has more parity than a frame can hold"


def check_choice(parity: int, group: int) -> None:
    """Raise UsageError unless groups of ``group`` data blocks can have ``parity`` parity blocks each."""
    if not 1 <= parity <= PARITY_MAX or group < 1 or group + parity > MEMBERS_MAX:
        raise UsageError(
            f"There is no parity of {parity} blocks for each {group}.",
            hint=f"Take 1 to {PARITY_MAX} parity blocks, and at most {MEMBERS_MAX} blocks together.",
        )


def shape_of(size: int, parity: int, group: int) -> Shape:
    """The shape that this version gives a file of ``size`` bytes; UsageError as ``check_choice``."""
    check_choice(parity, group)
    block = BLOCK_LEAST
    while block < BLOCK_MAX and block * group < size:
        block *= 2
    shape = Shape(size, block, -(-size // (block * group)), parity)
    if shape.fault:
        raise UsageError(f"A file of {size:,} bytes {shape.fault} with {parity} for each {group}.")
    return shape
