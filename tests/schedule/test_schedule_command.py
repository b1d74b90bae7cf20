"""Timers are installed, shown and removed; where systemd answers, it is told."""

from __future__ import annotations

import os
import stat

import pytest
from kit.cli import Result, invoke

from archiver.schedule import systemd

PLAN = """
[plan]
name = "small"
[night]
copies = ["/mnt/copy disk"]
prometheus = "/var/lib/node/a.prom"
[[repository]]
name = "org/model"
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
*show*.timer) printf 'ActiveState=active\\nLastTriggerUSec=@1796000000\\n';;
*show*.service) printf 'Result=exit-code\\nExecMainStatus=24\\n';;
*{refused}*) echo "Failed: no" >&2; exit 1;;
esac
"""


@pytest.fixture
def plan(tmp_path):
    file = tmp_path / "a plan.toml"
    file.write_text(PLAN)
    return file


@pytest.fixture
def units(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "systemd" / "user"


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """Puts a program in systemctl's place; returns what it was told."""

    def put(refused: str = "nothing") -> list[str]:
        folder, log = tmp_path / "bin", tmp_path / "log"
        folder.mkdir(exist_ok=True)
        program = folder / "systemctl"
        program.write_text(SYSTEMCTL.format(log=log, refused=refused))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setattr(systemd, "_BOOTED", tmp_path)
        return log

    return put


def test_without_systemd_units_are_written_shown_and_removed(cli, archive, plan, units):
    place = ("--json", "-C", archive)
    done = cli("schedule", "install", *place, plan, "--user", "--at", "01:30")
    assert done.code == 0, done.err
    assert not done.only("installed")["started"]
    assert "daemon-reload" in done.err
    service, timer = sorted(units.iterdir())
    assert '-"/mnt/copy disk" -"/var/lib/node"' in service.read_text()
    assert "OnCalendar=*-*-* 01:30:00" in timer.read_text()
    shown = cli("schedule", "show", *place).only("timer")
    assert (shown["at"], shown["plan"], shown["known"]) == ("01:30", str(plan), False)
    assert cli("schedule", "install", *place, plan, "--user").code == 0
    assert len(list(units.iterdir())) == 2, "installed again they are replaced"
    assert cli("schedule", "remove", *place).only("removed")["name"] == service.stem
    assert not list(units.iterdir())
    assert "No timer" in cli("schedule", "show", "-C", archive).out


def test_systemd_is_told_and_asked(cli, capsys, archive, plan, units, systemctl, hub):
    log = systemctl()
    assert cli("schedule", "install", "-C", archive, plan, "--user").code == 0
    name = next(units.glob("*.timer")).name
    assert log.read_text().splitlines() == [
        "--user --no-pager daemon-reload",
        f"--user --no-pager enable --now {name}",
    ]
    shown = cli("schedule", "show", "--json", "-C", archive).only("timer")
    assert (shown["last"], shown["exit_code"]) == ("2026-11-30T00:53:20Z", 24)
    code = invoke("doctor", "--json", "-C", archive)
    rows = Result(code, *capsys.readouterr()).kinds("check")
    checks = {row["subject"]: row for row in rows}
    assert checks["timer"]["problem"] in {"night-failed", "timer-late"}
    assert cli("schedule", "remove", "-C", archive).code == 0
    assert f"--user --no-pager disable --now {name}" in log.read_text()


def test_what_systemd_refuses_is_told(cli, archive, plan, units, systemctl):
    systemctl("enable")
    done = cli("schedule", "install", "-C", archive, plan, "--user")
    assert done.code == 1
    assert "Failed: no" in done.err


def test_what_cannot_be_a_schedule_is_refused(cli, archive, plan, units, tmp_path):
    for words, says in (
        ((plan, "--at", "25:00"), "no time of day"),
        ((tmp_path / "none.toml",), "no file of a plan"),
        ((plan, "--run-as", "me"), "--system"),
    ):
        done = cli("schedule", "install", "-C", archive, *words, "--user")
        assert done.code == 2, done
        assert says in done.err
    assert not units.exists()


def test_a_dry_run_and_a_line_of_cron_install_nothing(cli, archive, plan, units):
    rows = cli("schedule", "install", "--json", "-C", archive, plan, "--user", "-n").kinds("unit")
    assert [row["name"].rpartition(".")[2] for row in rows] == ["service", "timer"]
    line = cli("schedule", "install", "--json", "-C", archive, plan, "--cron").only("crontab")
    assert line["line"].startswith("0 2 * * * ")
    assert not units.exists()
