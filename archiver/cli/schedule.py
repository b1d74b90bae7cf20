"""``archiver schedule``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli import output
from archiver.cli.options import advised, archive_folder, common, open_archive
from archiver.errors import UsageError
from archiver.text import plural, printable, utc_text

if TYPE_CHECKING:
    from archiver.schedule.job import Job
    from archiver.schedule.systemd import InstalledJob


@click.group(epilog="Example: archiver schedule install -C /srv/weights plan.toml --at 01:30")
@common
def command() -> None:
    """Have 'archiver night' run each night, by systemd or cron."""


@command.command(
    "install", epilog="Example: archiver schedule install -C /srv/weights plan.toml --at 01:30"
)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--at", default="02:00", show_default=True, metavar="HH:MM", help="The time of day.")
@click.option(
    "--system/--user",
    "system",
    default=None,
    help="The machine's systemd, or your own. [default: the machine's for root]",
)
@click.option(
    "--run-as", "user", metavar="USER", help="Who runs it. [default: the archive's owner]"
)
@click.option(
    "--also",
    "also",
    metavar="DIR",
    multiple=True,
    type=Path,
    help="A further folder to write to, such as a place of copies; it may be absent; repeatable.",
)
@click.option("--token-file", metavar="FILE", type=Path, help="A file with the hub's token.")
@click.option(
    "--credential",
    "credentials",
    metavar="NAME=FILE",
    multiple=True,
    help="What the plan calls credential:NAME; repeatable.",
)
@click.option(
    "--on-failure", metavar="UNIT", default="", help="The unit to start when a night fails."
)
@click.option("--cron", is_flag=True, help="Print a line for a crontab, and install nothing.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the units, and install nothing.")
@common
def install(
    plan: Path,
    at: str,
    system: bool | None,
    user: str | None,
    also: tuple[Path, ...],
    token_file: Path | None,
    credentials: tuple[str, ...],
    on_failure: str,
    *,
    cron: bool,
    dry_run: bool,
) -> None:
    """Run 'archiver night PLAN' each night.

    Two systemd units are written, a hardened service and its timer, and the timer is started. A night that
    was missed is made up for. The same archive and plan again replaces them. The token is handed over as a
    credential: it stands neither in a unit nor in the environment.
    """
    from archiver.plan.reader import find_plan
    from archiver.schedule import crontab, systemd, units
    from archiver.schedule.job import Job

    open_archive(reading=True)
    if not plan.is_file():
        raise UsageError(f"{printable(str(plan))} is no file of a plan.")
    night = find_plan(str(plan)).night
    written = [*night.copies, str(Path(night.prometheus).parent) if night.prometheus else ""]
    for_all = os.geteuid() == 0 if system is None else system
    if user and not for_all:
        raise UsageError("--run-as is for the machine's units: add --system.")
    archive = archive_folder().resolve()
    job = Job(
        archive=archive,
        plan=plan.resolve(),
        at=at,
        also=tuple(path.absolute() for path in (*also, *map(Path, filter(None, written)))),
        token=token_file.resolve() if token_file else None,
        credentials=tuple(map(_credential, credentials)),
        on_failure=on_failure,
        user=(user or _owner(archive)) if for_all else "",
        system=for_all,
    )
    if cron:
        line = crontab.crontab_line(job)
        output.record("crontab", line=line)
        output.line(line)
        output.remark("Add it with 'crontab -e'. It holds no secret, and is to hold none.")
        return
    if dry_run:
        for ending, text in (
            ("service", units.service_text(job)),
            ("timer", units.timer_text(job)),
        ):
            output.record("unit", name=f"{job.name}.{ending}", text=text)
            output.line(f"# {systemd.unit_folder(system=for_all)}/{job.name}.{ending}")
            for line in text.splitlines():
                output.line(line)
        return
    started = systemd.install(job)
    _say_installed(job, started=started)


def _credential(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not file:
        raise UsageError(f"{printable(text)} is not NAME=FILE.")
    return name, Path(file).resolve()


def _say_installed(job: Job, *, started: bool) -> None:
    from archiver.schedule import systemd

    folder = str(systemd.unit_folder(system=job.system))
    output.record("installed", name=job.name, folder=folder, system=job.system, started=started)
    output.line(
        f"{printable(folder)}/{job.name}.service and .timer are written: each night at {job.at}."
    )
    user = "" if job.system else "--user "
    if not started:
        output.remark(
            "No systemd runs here, so none was told. Where it does: "
            f"'systemctl {user}daemon-reload && systemctl {user}enable --now {job.name}.timer'."
        )
    elif not job.system:
        output.remark("It runs while you are logged in; for always: 'loginctl enable-linger'.")
    output.remark(f"See {advised('schedule show')}, and {advised('doctor')}.")


def _owner(archive: Path) -> str:
    """Return the name of the archive's owner, "" for root or one without a name."""
    import pwd

    number = archive.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name if number else ""
    except KeyError:
        return ""


@command.command("show", epilog="Example: archiver schedule show -C /srv/weights")
@common
def show() -> None:
    """Show the timers of this archive: when they run, and how the last night ended."""
    jobs = _installed()
    for job in jobs:
        state = job.state
        output.record(
            "timer",
            name=job.name,
            system=job.system,
            plan=str(job.written.plan),
            at=job.written.at,
            known=state.known,
            active=state.active,
            last=utc_text(state.last) if state.last else "",
            next=utc_text(state.next) if state.next else "",
            result=state.result,
            exit_code=state.exit_code,
        )
        whose = "the machine's" if job.system else "your own"
        output.line(
            f"{job.name}.timer ({whose}): {job.written.at}, {printable(str(job.written.plan))}"
        )
        output.line(f"  {_state_text(job)}")
    if not jobs:
        output.line("No timer of this archive is installed.")


def _state_text(job: InstalledJob) -> str:
    state = job.state
    if not state.known:
        return "No systemd answers here, so it is not known whether it runs."
    if not state.active:
        return "It is not active: no night will begin."
    last = f"last begun {utc_text(state.last)}" if state.last else "never begun yet"
    ended = f", which ended with exit code {state.exit_code}" if state.last else ""
    after = f"; next {utc_text(state.next)}" if state.next else ""
    return f"Active; {last}{ended}{after}."


@command.command("remove", epilog="Example: archiver schedule remove -C /srv/weights")
@common
def remove() -> None:
    """Stop the timers of this archive and take their units away. A line of cron you remove yourself."""
    from archiver.schedule import systemd

    jobs = _installed()
    for job in jobs:
        systemd.remove(job)
        output.record("removed", name=job.name, system=job.system)
        output.line(f"{job.name} is removed.")
    output.remark(f"{plural(len(jobs), 'timer')} removed.")


def _installed() -> list[InstalledJob]:
    from archiver.schedule import systemd

    return systemd.installed(archive_folder().resolve())
