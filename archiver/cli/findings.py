"""Findings in words: a record each and, for people, where, what, and what to do next.

What a finding holds are facts and typed actions (``archive/advice.py``); every sentence and every command
line that is made of them is made here.
"""

from __future__ import annotations

import pkgutil
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, assert_never, get_args

import msgspec

from archiver.archive import advice
from archiver.archive.advice import Argv, argv, moving, quoted
from archiver.archive.findings import Code
from archiver.cli import output
from archiver.errors import UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.advice import Action, Actions
    from archiver.archive.findings import Finding


_LONGEST: Final = 2000
_DIGEST: Final = re.compile(
    r"(?<!\w)'[^']*'(?!\w)|(?<![0-9a-f])([0-9a-f]{16})[0-9a-f]{48}(?![0-9a-f])"
)
"""A digest; or what stands in quotes, a command perhaps, to be typed as it is."""


def shortened(text: str) -> str:
    """Return a text for people: the first 16 digits of each digest, except in what can be typed."""
    return _DIGEST.sub(lambda match: f"{match[1]}…" if match[1] else match[0], text)


def described(finding: Finding) -> dict[str, Any]:
    """Return a finding for JSON: what every finding has is always there, the rest as far as it is known.

    What may be several is a list. The keys ``snapshot``, ``path``, ``tensor``, ``rows`` and ``tensors``
    say the same as one text each, or as what stands for several.
    """
    tensor, rows = _only_tensor(finding)
    tensor_rows = msgspec.to_builtins(finding.tensors) or [{"name": tensor, **_NO_ROWS}]
    known = {
        "path": finding.path,
        "tensor": tensor,
        "rows": rows,
        "object": finding.object,
        "snapshot": ", ".join(finding.snapshots),
        "pack": finding.pack,
        "packs": finding.packs,
        "tensors": list(map(str, finding.tensors)) if len(finding.tensors) > 1 else [],
        "accepted": finding.accepted,
        "snapshots": finding.snapshots,
        "files": finding.files or ((finding.path,) if finding.path else ()),
        "tensor_rows": tensor_rows if tensor or finding.tensors else [],
        "actions": [_described_action(action) for action in finding.actions],
        "whole_in": finding.whole_in,
        "set_aside": finding.set_aside,
        "copied_from": finding.copied_from,
    }
    always = {
        "code": finding.code,
        "message": message_of(finding),
        "hint": hint_of(finding),
        "remark": finding.remark,
    }
    return always | {key: value for key, value in known.items() if value}


_NO_ROWS: Final = {"first": None, "last": None}


def _described_action(action: Action) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(action)
    return fields | {"commands": commands(action)}


def record_all(findings: Iterable[Finding]) -> None:
    """Print one JSON line for each."""
    for finding in findings:
        output.record("finding", **described(finding))


def record_report(kind: str, report: Any, **fields: Any) -> None:
    """Print a JSON line for each finding of a report, then one for the rest of it and ``fields``."""
    record_all(report.findings)
    rest = msgspec.to_builtins(report)
    del rest["findings"]
    output.record(kind, **(rest | fields))


def show_all(findings: Iterable[Finding]) -> None:
    """Print each with its place and message; a hint that several in a row share stands once, after them."""
    for hint, group in groupby(findings, hint_of):
        for finding in group:
            output.line(placed(finding))
            output.line(f"    {printable(shortened(message_of(finding)), _LONGEST)}")
        if hint:
            output.hint(shortened(hint))


def show_remarks(findings: Iterable[Finding]) -> None:
    """Print those that are no damage, on stderr; a hint that several in a row share stands once."""
    remarks = [finding for finding in findings if finding.remark]
    for hint, group in groupby(remarks, hint_of):
        for finding in group:
            message = printable(shortened(message_of(finding)), _LONGEST)
            output.remark(f"remark: {finding.code}: {message}")
        if hint:
            output.remark(f"    → {printable(shortened(hint), _LONGEST)}")


def placed(finding: Finding) -> str:
    """Return its code, and where it is."""
    tensor, rows = _only_tensor(finding)
    if rows:
        tensor += f" rows {rows[0]}..{rows[1]}"
    places = [", ".join(finding.snapshots), shortened(finding.path), tensor]
    return "  ".join([finding.code, *(printable(text, _LONGEST) for text in places if text)])


def _only_tensor(finding: Finding) -> tuple[str, tuple[int, int] | None]:
    """Return the one tensor that is hit, and its rows; ``""`` and None if there are none or several."""
    if len(finding.tensors) != 1:
        return finding.tensor, None
    (rows,) = finding.tensors
    return rows.name, None if rows.first is None or rows.last is None else (rows.first, rows.last)


_WHOLE_IN: Final = {"other-packs": "is whole in other packs", "this-pack": "comes out of it"}


def message_of(finding: Finding) -> str:
    """Return what happened, in sentences: also whether anything is lost, and where a file lies now."""
    text = finding.message
    if finding.whole_in:
        where = _WHOLE_IN[finding.whole_in]
        them = "them" if finding.packs else "it"
        text += f" Nothing is lost: every object of {them} {where}, so restore works."
    if finding.set_aside:
        text += f" It was set aside and lies in {finding.set_aside}: a repair brings it back."
    if finding.copied_from:
        text += " It was copied from the packs of its snapshot."
    return text


def hint_of(finding: Finding) -> str:
    """Return what to do next, in sentences; ``""`` if nothing has to be done."""
    return finding.hint or words(finding.actions)


def words(actions: Actions) -> str:
    """Return what the actions say to do, a sentence or two for each."""
    before: tuple[Action | None, ...] = (None, *actions)
    return " ".join(_sentence(*pair) for pair in zip(actions, before, strict=False))


def _sentence(action: Action, before: Action | None) -> str:  # noqa: C901, PLR0911, PLR0912 - one line for each kind
    run = quoted(*commands(action))
    match action:
        case advice.Repair(file=""):
            return f"Run {run}."
        case advice.Repair(file=file):
            return f"Run {run} to bring {file} back."
        case advice.RepairPacks():
            return f"Run {run} to bring back this snapshot's packs that are missing or damaged."
        case advice.RepairEvent(event=event):
            return (
                f"Run {run} with --from and another copy of this archive, to bring back event "
                f"{event[:16]}. Was it removed on purpose?"
            )
        case advice.FindRollback(event=event):
            return (
                f"Find out who put an older copy here, or rewrote this one, without event {event[:16]}. "
                f"Run {run} with --from and a copy that has it."
            )
        case advice.SetAsideUnneeded():
            return f"Run {run}: it sets aside what nothing needs."
        case advice.RepairFrom():
            return f"{run} brings it back from the copy."
        case advice.RepairFromCopy():
            return f"If another copy of the archive has it: {run}."
        case advice.AskElsewhere():
            return (
                "None of the places that were tried has it. "
                f"Run {run}, where DIR is another archive, a restored folder or a hub cache that has it."
            )
        case advice.RebuildCatalogue():
            return f"Run {run}."
        case advice.AddParity():
            return f"Run {run}: it remakes the sidecar if the file is whole."
        case advice.SignTrusted():
            return f"If you know who sealed it, and trust it, run {run} with a trusted key."
        case advice.SignAgain(file=file):
            return (
                f"Copy {file} from another copy of this archive, or run {run} with that key again."
            )
        case advice.ReplaceSnapshot():
            return (
                "Every copy of it says the same. Mirror the repository again, and take this snapshot out "
                f"of use with {run}."
            )
        case advice.BringOrForget():
            return (
                "Bring it back by a copy, a mirror or a repair; or, if it is no longer wanted, "
                f"run {run}."
            )
        case advice.AskUpstream(outvouched=True):
            return (
                "The second has the higher voucher for this file, and a lower one for others, so that the "
                f"first is restored. Run {run}: it asks upstream, and seals what upstream has."
            )
        case advice.AskUpstream():
            return (
                f"Which is right is not known here. Run {run}: it asks upstream, and seals what upstream "
                "has."
            )
        case advice.DropSeal():
            without = f"forget the one that you do not trust, such as with {run}."
            if action.append_only:
                without = f"copy the one that you trust into a new archive, with {run}."
            if not action.upstream:
                return f"Without upstream, {without}"
            return (
                "Upstream gave two answers about one commit. Find out which one other people have, and "
                f"{without}"
            )
        case advice.KeepOrForget(append_only=True):
            return "The other may stay: only its id names it, and an append-only archive forgets nothing."
        case advice.KeepOrForget():
            return f"The other may stay: only its id names it. {run} takes it out of use."
        case advice.WriteLine(file=file, line=line):
            return f"Write this line into {file}: {line}"
        case advice.CarryAnew(file=file):
            return f"Run {run} with a new folder and copy {file} out of it."
        case advice.MoveSeal():
            return _move(action)
        case advice.MoveOut():
            return "Move it out of the archive's folder, or delete it if nobody needs it."
        case advice.MayDelete():
            return "Nothing has to be done; it may be deleted."
        case advice.CheckPermissions():
            return "Check its permissions, and those of its folders."
        case advice.UseOtherFilesystem():
            return (
                "Restore it to a filesystem that tells upper from lower case, such as ext4 or XFS."
            )
        case advice.CheckMachine():
            return "Test this machine's memory, cables and disks."
        case advice.CheckHeadThere():
            return f"Check it where it was kept. For this place keep what {run} prints."
        case advice.TakeManifest():
            return f"Take another copy of the manifest: {run} writes one."
        case advice.TakeSignature():
            return (
                "Take another copy of the manifest and of its signature, or name the right ones with "
                "--signature and --key. 'archiver manifest export' writes both, if the archive has a "
                "signature."
            )
        case advice.RestoreAgain():
            return "Run the same restore again: it removes what a killed one left."
        case advice.MirrorAnew():
            return (
                "The model cannot be loaded without it. Mirror the revision again: that fetches what is "
                "missing."
            )
        case advice.MoveOrIgnore():
            return "Move it away, or name it with --ignore if it may be there."
        case advice.PutFile():
            return "Put the file itself there."
        case advice.Explain(code=code):
            return f"{run} says {_explained(code, before)}."
        case advice.Audit():
            return f"Then run {run}."
    assert_never(action)


def _explained(code: str, before: Action | None) -> str:
    """Return what the explanation of a code says, after what was advised before it."""
    match before:
        case advice.Repair():
            return "what to do if that cannot"
        case advice.AskElsewhere():
            return "what else to do"
        case advice.ReplaceSnapshot():
            return "more"
    if code == "file-differs":
        return "what to do: no stored byte is known to be damaged"
    return "what to do"


def _move(action: advice.MoveSeal) -> str:
    move = f"move it out of the folder: {moving(action.place, action.file)}"
    if not action.own_file:
        return f"Check its permissions, or {move}."
    return f"Give it its name, {moving(action.place, action.file, action.own_file)}, or {move}."


def commands(action: Action) -> tuple[Argv, ...]:  # noqa: C901, PLR0911, PLR0912 - as above
    """Return the command lines that do it; words in capitals stand for what only the reader knows."""
    match action:
        case (
            advice.Repair(place=place)
            | advice.RepairPacks(place=place)
            | advice.RepairEvent(place=place)
            | advice.FindRollback(place=place)
            | advice.SetAsideUnneeded(place=place)
        ):
            return (argv("repair", place),)
        case advice.RepairFrom(place=place, source=source):
            return (argv("repair", place, "--from", source),)
        case advice.RepairFromCopy(place=place) | advice.AskElsewhere(place=place):
            return (argv("repair", place, "--from", "DIR"),)
        case advice.RebuildCatalogue(place=place):
            return (argv("catalogue rebuild", place),)
        case advice.AddParity(place=place):
            return (argv("parity add", place),)
        case advice.SignTrusted(place=place) | advice.SignAgain(place=place):
            return (argv("sign", place, "--key", "FILE"),)
        case (
            advice.ReplaceSnapshot(place=place, snapshot=snapshot)
            | advice.BringOrForget(place=place, snapshot=snapshot)
        ):
            return (argv("forget", place, snapshot),)
        case advice.AskUpstream(place=place, snapshot=snapshot):
            return (argv("mirror", place, snapshot),)
        case advice.DropSeal(append_only=True, place=place):
            return (argv("copy", place, "--new", "--snapshot", "REPO@SEAL", "DIR"),)
        case advice.KeepOrForget(append_only=True):
            return ()
        case advice.DropSeal(place=place, seal=seal) | advice.KeepOrForget(place=place, seal=seal):
            return (argv("forget", place, seal),)
        case advice.MoveSeal(place=place, file=file, own_file=own) if own:
            return (("mv", "-n", f"{place}/{file}", f"{place}/{own}"),)
        case advice.CarryAnew():
            return (argv("init", "NEW"),)
        case advice.CheckHeadThere(place=place):
            return (argv("head", place),)
        case advice.TakeManifest():
            return (argv("manifest export", "ARCHIVE", "REPO@REVISION", "-o", "FILE"),)
        case advice.Explain(code=code):
            return (("archiver", "audit", "--explain", code),)
        case advice.Audit(place=place, snapshot=snapshot):
            return (argv("audit", place, *(("--snapshot", snapshot) if snapshot else ())),)
    return ()


_MEND = "How to mend an archive"


def explanation(code: str) -> str:
    """Return what docs/findings.md says about a code and, for damage of an archive, about mending one.

    Raise UsageError if there is no such code.
    """
    known = get_args(Code)
    if code not in known:
        from difflib import get_close_matches

        near = get_close_matches(code, known, 3) or known
        raise UsageError(f"There is no finding {code!r}.", hint=f"There are: {', '.join(near)}.")
    page = (pkgutil.get_data("archiver", "carried/findings.md") or b"").decode()
    of_audit = page.partition("\n## Findings of `audit`\n")[2].partition("\n## ")[0]
    title = f"### `{code}`"
    mend = [_section(page, f"## {_MEND}")] if f"\n{title}\n" in of_audit else []
    return "\n\n".join([_section(page, title), *mend])


def _section(page: str, title: str) -> str:
    """Return a heading and the text below it, without the marks of headings and links."""
    rest = page.partition(f"\n{title}\n")[2]
    text = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0].strip()
    name = title.strip("# `")
    return f"{name}\n\n" + re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
