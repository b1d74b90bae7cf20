"""``archiver doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import advised, common, open_archive, token_option
from archiver.cli.progress import Meter
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from archiver.operations.doctor import Check

_MARKS: Final = {"ok": "ok", "note": "note", "failed": "FAILED", "unknown": "unknown"}


@click.command(epilog="Example: archiver doctor -C /srv/weights --plan plan.toml")
@click.option("--plan", metavar="PLAN", help="Ask the hubs of this plan. [default: Hugging Face]")
@token_option
@common
def command(plan: str | None, token: str | None) -> None:
    """Look at all that a night needs: clock, disk, hubs, timers.

    Also room, rights, the token, libraries and extras. Nothing is mended; each check that fails comes with
    its remedy. What the archive holds is for 'archiver audit' to check.
    """
    from archiver.names import HUGGING_FACE
    from archiver.operations.doctor import DoctorRequest, doctor
    from archiver.plan.reader import find_plan

    hubs = find_plan(plan).hubs if plan else (HUGGING_FACE,)
    archive = open_archive(reading=True)
    with Meter("Looking", "checks") as meter:
        report = doctor(archive, DoctorRequest(tuple(hubs), token), meter)
    for check in report.checks:
        message, remedy = _said(check)
        output.record("check", **msgspec.to_builtins(check), message=message, remedy=remedy)
        output.line(f"{_MARKS[check.outcome]:>7}  {check.subject}: {message}")
        if remedy:
            output.hint(remedy, 9)
    counts = {
        outcome: sum(check.outcome == outcome for check in report.checks) for outcome in _MARKS
    }
    output.record("doctor", exit_code=report.exit_code, **counts)
    output.line(
        f"{plural(len(report.checks), 'check')}: {counts['failed']} failed, {counts['unknown']} could not "
        "be made."
    )
    if report.exit_code:
        output.exit_with(report.exit_code)


def _said(check: Check) -> tuple[str, str]:
    """Return a check as a sentence, and what to do about it; "" where there is nothing to do."""
    facts = {name: _shown(check.subject, value) for name, value in check.facts.items()}
    if not check.problem:
        return _ALL_WELL[check.subject].format_map(facts), ""
    lacking = check.facts.get("lacking")
    if check.problem == "disk-lacks" and isinstance(lacking, list):
        return f"It lacks what disks have: {'; '.join(_LACKING[name] for name in lacking)}.", ""
    message, remedy = _PROBLEMS[check.problem]
    for word in ("audit", "night", "schedule show", "schedule install"):
        remedy = remedy.replace(f"<{word}>", advised(word))
    return message.format_map(facts), remedy.format_map(facts)


def _shown(subject: str, value: Any) -> str:
    if subject == "room" and isinstance(value, int):
        return human_bytes(value)
    if isinstance(value, list):
        return ", ".join(printable(str(each)) for each in value)
    return printable(str(value), 1000) if isinstance(value, str) else str(value)


_ALL_WELL: Final = {
    "clock": "{now}, and the journal is not ahead of it.",
    "hub-clock": "It differs by {seconds} s from that of {hub}.",
    "room": "{free} are free.",
    "inodes": "Room for {free} more files.",
    "access": "It belongs to user {owner}, and user {user} may write there.",
    "filesystem": "It syncs, renames, locks, links, and tells names apart by case.",
    "hub": "{endpoint} answers.",
    "token": "{endpoint} takes it.",
    "versions": "{versions}.",
    "extras": "All of '{extra}' is installed.",
    "timer": "{name} is active; last {last}, next {next}.",
}
_LACKING: Final = {
    "folder-sync": "names cannot be made durable, so that what came in the last minutes may be gone after "
    "a power cut",
    "cases": "names that differ only in case are one",
    "links": "no file has two names",
    "symlinks": "it has no symbolic links",
    "locks": "it has no locks for whole files, and a file stands in for them where something is deleted",
    "range-locks": "it has no locks for SQLite, so that the catalogue lies elsewhere",
}
_PROBLEMS: Final = {
    "clock-before-2025": (
        "This machine says {now}, when there was no archive anywhere.",
        "Set the clock: 'timedatectl set-ntp true'.",
    ),
    "clock-behind-journal": (
        "This machine says {now}, and the journal has come to {journal}.",
        "Set the clock: 'timedatectl set-ntp true'. If it is right: 'archiver prune --trust-clock'.",
    ),
    "clock-differs": (
        "It differs by {seconds} s from that of {hub}, which says {told}.",
        "Set the clock: 'timedatectl set-ntp true'.",
    ),
    "no-date": ("{hub} tells no time.", ""),
    "little-room": (
        "{free} are free, and a mirror keeps {least} so.",
        "Free some room, or move the archive to a larger disk.",
    ),
    "room-not-told": ("The disk does not tell how much is free.", ""),
    "few-inodes": (
        "There is room for {free} more files only.",
        "Delete small files elsewhere on the disk, or make its filesystem anew with more inodes.",
    ),
    "not-writable": (
        "User {user} may not write there; it belongs to user {owner}.",
        "Run archiver as its owner, or change the owner with 'chown -R'.",
    ),
    "others-may-write": (
        "Everybody on this machine may write there.",
        "Take that right away: 'chmod o-w' on the archive's folder.",
    ),
    "several-owners": (
        "It belongs to user {owner}, and these folders in it to others: {folders}.",
        "If that is not meant so, give them one owner: 'chown -R'.",
    ),
    "cannot-write": (
        "Nothing can be written there: {reason}.",
        "Look at the disk: 'dmesg', 'mount', 'smartctl -a'.",
    ),
    "no-file-sync": (
        "Bytes cannot be made durable there: a power cut may take what was reported as stored.",
        "Move the archive to another filesystem, or mount this one without what takes that away.",
    ),
    "no-rename": (
        "A file does not take the place of another in one step there.",
        "Move the archive to another filesystem.",
    ),
    "read-only": (
        "It was not tried out, for nothing may be written there.",
        "Run it as the archive's owner.",
    ),
    "hub-unreachable": (
        "{endpoint} does not answer: {reason}",
        "Check the network, a proxy (HTTPS_PROXY), the name (HF_ENDPOINT, MODELSCOPE_ENDPOINT).",
    ),
    "hub-not-asked": ("{reason}", "Unset HF_HUB_OFFLINE, if the hub is to be asked."),
    "hub-fails": (
        "{endpoint} answers with HTTP {status}.",
        "Try again later; if it stays so, see the hub's own page of its state.",
    ),
    "no-token": (
        "None is set for {endpoint}: what is gated or private is not mirrored.",
        "If that is wanted: HF_TOKEN, MODELSCOPE_API_TOKEN, or 'schedule install --token-file'.",
    ),
    "token-refused": (
        "{endpoint} refuses it.",
        "It has expired, was withdrawn, or was cut when it was copied. Make a new one on the hub's page.",
    ),
    "token-not-judged": ("{endpoint} does not say whether it takes it.", ""),
    "library-missing": (
        "Not installed: {missing}.",
        "Install archiver anew: 'pip install --force-reinstall weights-archiver'.",
    ),
    "extra-missing": (
        "Of '{extra}' these are not installed: {missing}.",
        "If you want it: 'pip install weights-archiver[{extra}]'.",
    ),
    "no-timer": (
        "No timer of this archive is installed.",
        "If cron does not run it: <schedule install>, with your plan.",
    ),
    "timer-inactive": (
        "{name} is installed and not active: no night begins.",
        "Start it: 'systemctl enable --now {name}.timer', with --user if it is your own.",
    ),
    "timer-late": (
        "{name} began its last night at {last}.",
        "See why: 'systemctl status {name}.timer'. A machine that sleeps at night makes up for it later.",
    ),
    "night-failed": (
        "The last night of {name}, of {last}, ended with exit code {exit_code}.",
        "See what it said: 'journalctl -u {name}'.",
    ),
    "timer-not-told": (
        "{name} is installed, and no systemd answers here.",
        "Ask where it runs: 'systemctl list-timers'.",
    ),
}
