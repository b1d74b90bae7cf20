"""What an audit says about a pack as a file, once it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive.finding import Code, Finding
from archiver.archive.layout import pack_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.advice import Advice
    from archiver.archive.audit.packs import Examined
    from archiver.archive.audit.wanted import Wanted


def pack_findings(found: Examined, advice: Advice) -> Iterator[Finding]:
    """What is wrong with the pack as a file; its objects are judged with the files they hold."""
    for one in _faults(found):
        name = pack_name(found.wanted.pack)
        actions = advice.copy_back(name, one.code)
        if one.code == "read-unstable":
            actions = advice.unstable()
        elif one.code == "file-unreadable":
            actions = advice.make_readable()
        yield msgspec.structs.replace(one, actions=actions)


def _faults(found: Examined) -> Iterator[Finding]:
    wanted, state = found.wanted, found.state
    name = pack_name(wanted.pack)
    if found.unstable:
        yield _finding("read-unstable", found.unstable, wanted)
    if state is None:
        code: Code = "pack-damaged" if found.problem else "pack-missing"
        if found.denied:
            code = "file-unreadable"
        yield _finding(code, found.problem or f"{name} is missing.", wanted)
        return
    if wanted.sizes and state.size not in wanted.sizes:
        # A pack of another size has another digest and has lost its index: that goes without saying.
        sizes = " or ".join(f"{size:,}" for size in sorted(wanted.sizes))
        text = f"{name} has {state.size:,} bytes, its seals say {sizes}."
        yield _finding("pack-size", text, wanted)
        return
    if found.level != "structure" and state.blake3 != wanted.pack:
        reason = state.unreadable or "its bytes have another digest than its name"
        yield _finding("pack-damaged", f"{name} is damaged: {reason}.", wanted)
    if state.index:
        yield _finding("index-damaged", f"{name}: {state.index}", wanted)


def _finding(code: Code, message: str, wanted: Wanted) -> Finding:
    path, snapshots = pack_name(wanted.pack), tuple(wanted.snapshots)
    return Finding(code, message, path=path, pack=wanted.pack, snapshots=snapshots)
