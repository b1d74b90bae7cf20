"""Units by systemd's own tools and parser: hardened, and every path as it was given."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from archiver.errors import UsageError
from archiver.schedule.crontab import crontab_line
from archiver.schedule.job import Job
from archiver.schedule.units import command_line, escaped, read_back, service_text, timer_text


class Parser:
    """systemd's own functions, out of the library that its programs share."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        # The numbers of EXTRACT_UNQUOTE and EXTRACT_CUNESCAPE are each version's own.
        bits = [1 << bit for bit in range(10)]
        self.unquote = next(bit for bit in bits if self.words('"a b"', bit) == ["a b"])
        self.command = self.unquote | next(bit for bit in bits if self.words("\\x41", bit) == ["A"])

    def words(self, line: str, flags: int) -> list[str]:
        left = ctypes.c_char_p(os.fsencode(line))
        words = []
        while True:
            word = ctypes.c_char_p()
            call = self._library.extract_first_word
            result = call(ctypes.byref(left), ctypes.byref(word), None, flags)
            if result <= 0:
                return words
            words.append(self.printed(word.value or b""))

    def printed(self, text: bytes) -> str:
        """The text with specifiers put in; there are none."""
        none, out = (ctypes.c_char * 64)(), ctypes.c_char_p()
        size = ctypes.c_size_t(1 << 20)
        result = self._library.specifier_printf(text, size, none, None, None, ctypes.byref(out))
        assert result >= 0, text
        return os.fsdecode(out.value or b"")


@pytest.fixture(scope="module")
def parser() -> Parser:
    libraries = sorted(Path("/usr/lib").glob("*/systemd/libsystemd-shared-*.so"))
    return Parser(libraries[-1])


TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=60
).map(lambda text: f"/{text}")


@given(st.lists(TEXTS, min_size=1, max_size=4))
@example(["/a b", "/100%/%d", '/"q"', "/'s'", "/back\\slash\\", "/$HOME ${x}", "/;", "/#", "/-@!+"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_systemd_reads_back_every_word_of_a_command(parser, words):
    line = command_line(["/bin/true", *words])
    read = parser.words(line, parser.command)
    # A service's own step: two dollars are one, and a single one would begin a variable.
    assert all("$" not in word.replace("$$", "") for word in read)
    assert [word.replace("$$", "$") for word in read] == ["/bin/true", *words]


@given(st.lists(TEXTS, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_systemd_reads_back_every_path_of_a_setting(parser, paths):
    line = " ".join(map(escaped, paths))
    assert parser.words(line, parser.unquote) == paths
    assert parser.words(f"-{line}", parser.unquote)[0] == f"-{paths[0]}"


@pytest.fixture
def job(tmp_path) -> Job:
    folder = tmp_path / 'an "odd" 100% $HOME place'
    (folder / "archive").mkdir(parents=True)
    plan = folder / "plan's.toml"
    plan.write_text("")
    return Job(folder / "archive", plan, "01:30", (folder / "disk",), system=True)


def written(folder: Path, job: Job) -> Path:
    folder.mkdir()
    (folder / f"{job.name}.timer").write_text(timer_text(job))
    service = folder / f"{job.name}.service"
    service.write_text(service_text(job))
    return service


KINDS = {
    "root": {},
    "user of the machine": {"user": "games", "on_failure": "mail@%n.service"},
    "own": {"system": False},
    "token": {
        "token": Path("/etc/archiver/to ken%"),
        "credentials": (("ping-url", Path("/etc/archiver/pi ng")),),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_systemd_finds_nothing_wrong_with_the_units(kind, job, tmp_path):
    job = job._replace(**KINDS[kind])
    service = written(tmp_path / "units", job)
    names = [service.name, f"{job.name}.timer"]
    environ = os.environ | {"SYSTEMD_UNIT_PATH": f"{service.parent}:"}
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *names]
    done = subprocess.run(
        verify, cwd=service.parent, env=environ, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", KINDS)
def test_the_service_is_exposed_by_no_more_than_4(kind, job, tmp_path):
    job = job._replace(**KINDS[kind])
    service = written(tmp_path / "units", job)
    analyze = ["systemd-analyze", "security", "--offline=yes", "--threshold=40", "--no-pager"]
    done = subprocess.run(
        [*analyze, f"./{service.name}"], cwd=service.parent, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode()


def test_no_secret_stands_in_a_unit_or_a_line_of_cron(job, tmp_path):
    token = tmp_path / "token"
    token.write_text("hf_secret")
    job = job._replace(token=token)
    for text in (service_text(job), timer_text(job), crontab_line(job)):
        assert "hf_secret" not in text
    assert f"LoadCredential=hf-token:{token}" in service_text(job)


@pytest.mark.parametrize(
    "name", ["a\nExecStart=/bin/sh", "a\tb", "a\u2028b", "a\x7f", "end\\", "end ", "\udce4"]
)
@pytest.mark.parametrize("field", ["archive", "plan", "token"])
def test_what_would_be_read_as_something_else_is_refused(name, field, job):
    for make in (service_text, timer_text, crontab_line):
        with pytest.raises(UsageError):
            make(job._replace(**{field: Path("/srv") / name}))


@pytest.mark.parametrize(
    "change",
    [
        {"at": "25:00"},
        {"at": "1:30\nExecStart=x"},
        {"user": "a b"},
        {"user": "-x"},
        {"on_failure": "x"},
        {"on_failure": "a.service\nb"},
        {"archive": Path("relative")},
        {"credentials": (("a:b", Path("/x")),)},
        {"credentials": (("a", Path("/x\ny")),)},
    ],
)
def test_what_is_no_time_user_or_unit_is_refused(change, job):
    with pytest.raises(UsageError):
        service_text(job._replace(**change))


def test_a_shell_reads_the_line_of_cron_as_it_was_meant(job):
    line = crontab_line(job._replace(token=Path("/to ken")))
    minute, hour, rest = line.split(" ", 2)
    assert (minute, hour) == ("30", "1")
    assert "%" not in rest.replace("\\%", "")
    said = "import sys, os; print(os.environ['HF_TOKEN_PATH']); print('\\0'.join(sys.argv[1:]), end='')"
    shell = (
        rest.removeprefix("* * * ").replace("\\%", "%").replace(" -m archiver ", ' -c "$SAID" ', 1)
    )
    done = subprocess.run(
        ["sh", "-c", shell],
        env=os.environ | {"SAID": said},
        capture_output=True,
        text=True,
        check=True,
    )
    token, _, words = done.stdout.partition("\n")
    assert token == "/to ken"
    assert words.split("\0") == ["-q", "night", "-C", str(job.archive), str(job.plan)]


def test_a_unit_says_for_what_it_was_written(job):
    for text in (service_text(job), timer_text(job)):
        assert read_back(text) == (job.archive, job.plan, "01:30")
    assert read_back("[Timer]\nOnCalendar=daily\n") is None
