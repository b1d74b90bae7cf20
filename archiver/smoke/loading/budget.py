"""How much memory weights may take while a model is streamed."""

from __future__ import annotations

from dataclasses import dataclass

from archiver import memory
from archiver.smoke.hardware import device_memory, resident_memory


@dataclass
class Budget:
    """What may stay in memory once it is read.

    A forward pass uses all layers in turn, so of what does not fit, the layer that was used longest
    ago is always the next that is needed: to throw out the oldest would never save a read. What
    comes first stays; the rest is read each time.

    Attributes:
        limit: The process's resident memory must stay below so many bytes.
        headroom: Bytes that the largest layer, conversions and activations take while it runs.
        device: Where the weights go.
        ahead: Bytes of the headroom that are for weights that are read before they are needed.
        readers: How many of them are read at once.
    """

    limit: int
    headroom: int
    device: str
    ahead: int = 0
    readers: int = 1
    _full: bool = False

    def stays(self) -> bool:
        """Whether what was just read, and is in memory now, may stay there."""
        if not self._full and not self._fits():
            memory.give_back()
            self._full = not self._fits()
        return not self._full

    def has_room(self, size: int) -> bool:
        """Whether ``size`` bytes can be had besides what is in memory now."""
        free = device_memory(self.device)
        if free is not None:
            return free >= size
        memory.give_back()
        return resident_memory() + size <= self.limit

    def _fits(self) -> bool:
        free = device_memory(self.device)
        if free is not None:
            return free >= self.headroom
        return resident_memory() + self.headroom <= self.limit
