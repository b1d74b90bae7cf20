"""What upstream changed, in words: for ``log``, ``watch``, ``upstream`` and ``status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.watch import is_news
from archiver.text import human_bytes, in_short, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.events import (
        FileChanges,
        UpstreamChange,
        UpstreamChanged,
        UpstreamUnseen,
    )


_COMMIT: Final = 12
_NAMED: Final = 3
_TEXT: Final = 80
_CHANGES: Final = 8
_GATES: Final = {
    "": "It is open to everybody now.",
    "auto": "It is gated now.",
    "manual": "It is gated now: its owner lets people in by hand.",
}


def changed_sentence(changed: UpstreamChanged) -> str:
    """Return what a look at upstream found, in words."""
    news = [change for change in changed.changes if is_news(change, first=changed.first)]
    parts = ["Looked at upstream for the first time."] if changed.first else []
    parts += map(change_sentence, news[:_CHANGES])
    if len(news) > _CHANGES:
        parts.append(f"And {plural(len(news) - _CHANGES, 'more change', 'more changes')}.")
    return " ".join(parts)


def unseen_sentence(detail: UpstreamUnseen) -> str:
    """Return which repositories upstream does not show, and which it shows again, in words."""
    named = (
        ("not shown to us", [entry.repository for entry in detail.unseen]),
        ("shown again", list(detail.seen)),
    )
    parts = []
    for how, repositories in named:
        if repositories:
            names = in_short((printable(name, _TEXT) for name in repositories), _NAMED)
            count = plural(len(repositories), "repository", "repositories")
            parts.append(f"{how}, {count}: {names}")
    return f"{'; '.join(parts)}."


def change_sentence(change: UpstreamChange) -> str:  # noqa: C901, PLR0911 - one case for each kind
    """Return one change as a sentence; of a kind that only another version knows, what it says."""
    before, after = printable(change.before, _TEXT), printable(change.after, _TEXT)
    match change.what:
        case "branch" | "tag":
            return _of_ref(change)
        case "commit-lost":
            return f"The commit {before[:_COMMIT]} is no longer there{_by(change)}."
        case "licence":
            return f"The licence is {after or 'none'}{_instead_of(before)}."
        case "gating":
            return _GATES.get(change.after, f"It is gated now: {after}.")
        case "card":
            return f"The card changed{'' if after else ': there is none now'}."
        case "privacy":
            return "It is private now." if after else "It is public now."
        case "disabled":
            how = "has switched it off" if after else "has switched it on again"
            return f"Upstream {how}{_by(change)}."
        case "identity":
            return f"Another repository has this name: its id is {after or 'none'}{_instead_of(before)}."
        case "name":
            return f"It is called {after} now." if after else "It has its old name again."
        case "gone":
            days = plural(len(change.since), "day")
            return f"It is gone or private: not shown on {days}{_by(change)}."
        case "back":
            return f"It is shown again; it was called gone on {before[:10]}."
        case "left-out":
            return _left_out(change)
    return f"{printable(change.what, _TEXT)}: {before or '-'} → {after or '-'}."


def _of_ref(change: UpstreamChange) -> str:
    name = f"The {change.what} {printable(change.name, _TEXT)}"
    before, after = change.before[:_COMMIT], change.after[:_COMMIT]
    before, after = printable(before), printable(after)
    if not after:
        return f"{name} is gone; it was at {before}."
    if not before:
        return f"{name} is new, at {after}."
    files = f": {', '.join(_files(change.files))}" if change.files else ""
    if change.history == "rewritten":
        gone = ", which is no longer there" if change.status else ""
        return f"{name} was rewritten: it is at {after}, and not after {before}{gone}{files}."
    if change.history == "continued":
        return f"{name} has new commits, up to {after} after {before}{files}."
    return f"{name} moved from {before} to {after}{files}."


def _files(files: FileChanges) -> Iterator[str]:
    for count, word in (
        (files.added, "added"),
        (files.changed, "changed"),
        (files.removed, "removed"),
    ):
        if count:
            yield f"{plural(count, 'file')} {word}"
    if not files.added + files.changed + files.removed:
        yield "no file changed"
        return
    yield f"{files.weights:,} of them weights" if files.weights else "no weights among them"
    if files.bytes:
        yield human_bytes(files.bytes)


def _left_out(change: UpstreamChange) -> str:
    if not change.count:
        return "The patterns leave out no weights any more."
    names = ", ".join(printable(path, _TEXT) for path in change.paths[:_NAMED])
    more = ", …" if change.count > _NAMED else ""
    files = plural(change.count, "file")
    return f"The patterns leave out {files} of weights: {names}{more}."


def _instead_of(before: str) -> str:
    return f", and was {before}" if before else ""


def _by(change: UpstreamChange) -> str:
    code = f", {printable(change.code, _TEXT)}" if change.code else ""
    return f" (HTTP {change.status}{code})" if change.status else ""
