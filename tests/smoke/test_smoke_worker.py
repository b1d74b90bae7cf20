"""The child process of a smoke test: whatever a hostile model has it do costs little and is a verdict."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import pytest
from kit.zygote import forked_worker, import_libraries
from levelkit import climb
from spoil import edited

from archiver.errors import (
    DamageError,
    LinkedFolderError,
    NoSpaceError,
    UnfinishedModelError,
    UnreadableError,
)
from archiver.progress import Progress
from archiver.smoke import hardware, run, worker
from archiver.smoke.checkpoint import config
from archiver.smoke.messages import (
    Advanced,
    Broke,
    EventReader,
    Finished,
    FolderSource,
    Raised,
    Settings,
    framed,
)
from archiver.smoke.report import LEVELS, Proof, up_to
from archiver.smoke.tokenizer import check as tokenizer_check
from archiver.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import smokekit

    from archiver.smoke.report import Level, LevelReport, SmokeReport

MIB = 1 << 20
COSTLY = 96 * MIB
"""A test that reads a config, and refuses it, takes less."""


class Peak:
    """The most memory that a child, and this process beside it, held while a test ran."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self._before = hardware.resident_memory()
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            own = hardware.resident_memory() - self._before
            children = (hardware.usage_of(pid) for pid in self.pids)
            # a fork begins with what its parent has
            grown = sum(max(0, one.memory - self._before) for one in children if one)
            self.most = max(self.most, own + grown)


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch):
    """Children are forks of this process, so that they are as a test made it; they are measured."""
    import_libraries()
    with Peak() as watched:

        def start() -> Any:
            child = forked_worker()
            watched.pids.append(child.pid)
            return child

        monkeypatch.setattr(run, "start_worker", start)
        # what this process held before is no fault of its fork
        for name in ("FILES_MEMORY", "LEAST_MEMORY"):
            monkeypatch.setattr(run, name, getattr(run, name) + hardware.resident_memory())
        yield watched


def report_of(folder: Path, levels: Sequence[Level], **settings: Any) -> SmokeReport:
    source = FolderSource(os.fsencode(folder))
    report, _ = run.run(source, str(folder), levels, Settings(**settings, device="cpu"), Progress())
    return report


def level_of(report: SmokeReport, level: Level) -> LevelReport:
    return next(one for one in report.levels if one.level == level)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.ESRCH
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


# ---- numbers of a config


ABSURD = (
    ("num_labels", 10**9),
    ("text_config.num_hidden_layers", 10**9),
    ("text_config.hidden_size", 10**12),
    ("text_config.vocab_size", 10**12),
    ("text_config.num_experts", 10**9),
    ("text_config.num_attention_heads", 10**9),
    ("text_config.head_dim", 10**9),
    ("text_config.max_position_embeddings", 10**9),
    ("text_config.partial_rotary_factor", 10**9),
    ("vision_config.depth", 10**9),
    ("vision_config.image_size", 10**6),
    ("vision_config.num_position_embeddings", 10**9),
    ("quantization_config.group_size", 10**12),
)
ZERO = (
    "text_config.hidden_size",
    "text_config.vocab_size",
    "text_config.num_hidden_layers",
    "text_config.num_attention_heads",
    "text_config.num_key_value_heads",
    "text_config.head_dim",
    "text_config.num_experts_per_tok",
    "text_config.linear_conv_kernel_dim",
    "text_config.rope_theta",
    "vision_config.patch_size",
    "vision_config.num_heads",
    "vision_config.spatial_merge_size",
    "quantization_config.group_size",
    "quantization_config.bits",
)


@pytest.mark.parametrize(("where", "number"), [*ABSURD, *((key, 0) for key in ZERO)])
def test_an_absurd_number_is_a_finding_and_costs_nothing(
    copy_of: smokekit.Copies, peak: Peak, where: str, number: int
):
    folder = copy_of("gptq" if where.startswith("quant") else "moe")
    with edited(folder / "config.json") as content:
        *parts, key = where.split(".")
        for part in parts:
            content = content.setdefault(part, {})  # noqa: PLW2901 - one part after another
        content[key] = number
    report = report_of(folder, up_to("generate"))  # the tokenizer's loader reads the file as well
    found = [finding for finding in report.findings if not finding.remark]
    assert {(one.code, one.path) for one in found} == {("model-config", "config.json")}
    assert all(f"config.json says {key} = {number}" in one.message for one in found)
    verdicts = [level.verdict for level in report.levels]
    assert verdicts == ["failed", "failed", "skipped", "skipped", "skipped"]
    assert report.exit_code == 25
    assert len(peak.pids) == 1
    assert peak.most < COSTLY


def test_a_config_that_no_rule_refuses_gets_no_more_memory_than_it_may(
    copy_of: smokekit.Copies, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(config, "_check_numbers", lambda *_: None)
    allowed = hardware.resident_memory() + 512 * MIB
    monkeypatch.setattr(run, "FILES_MEMORY", allowed)
    folder = copy_of("text")
    with edited(folder / "config.json") as content:
        content["num_labels"] = 10**9  # for which transformers makes as many names
    report = report_of(folder, ("structure", "load"))
    (finding,) = report.findings
    assert finding.code == "model-load"
    assert "took more than" in finding.message
    assert (report.exit_code, level_of(report, "load").verdict) == (25, "skipped")
    assert 256 * MIB < peak.most < 1024 * MIB
    assert all(map(gone, peak.pids))


def test_a_limit_that_was_asked_for_is_kept(
    models: smokekit.Models, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    def greedy(_trial: object) -> None:
        taken: list[bytes] = []
        while len(taken) < 4096:
            taken += [os.urandom(MIB)]

    monkeypatch.setitem(worker._CHECKS, "load", greedy)
    monkeypatch.setattr(run, "ROOM", 64 * MIB)
    report = report_of(models("text"), ("load",), memory=256 * MIB)
    (level,) = report.levels
    assert (level.verdict, report.exit_code) == ("skipped", 4)  # it says nothing of the model
    assert "needs more memory than there is" in level.reason
    assert "--memory" in level.hint
    assert peak.most < 512 * MIB


def test_before_the_first_level_a_child_may_take_what_files_may(
    models: smokekit.Models, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    opened = worker._opened

    def slowly(*given: Any) -> Any:
        ends = time.monotonic() + 0.5
        while time.monotonic() < ends:  # it computes, so that it is looked at
            pass
        return opened(*given)

    monkeypatch.setattr(worker, "_opened", slowly)
    report = report_of(models("text"), ("tokenizer",), memory=1)
    assert report.held, report


def test_a_level_for_which_memory_does_not_suffice_could_not_run(
    made: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(_session: object) -> None:
        raise MemoryError

    monkeypatch.setitem(worker._CHECKS, "structure", fail)
    done = climb(made, ("structure",))
    assert done.verdicts == {"structure": "skipped"}
    assert "--memory" in done["structure"].hint
    assert "Level structure" in done["structure"].reason


# ---- code: templates and tokenizers


@pytest.mark.parametrize(
    ("template", "seconds", "words"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            1,
            "end",
        ),
        ("{{ 10**(10**10) }}", 1, "did not come to an end within"),
        ("{{ ('a' * 900000000) | length }}{{ messages[0].content }}", 60, "512 MiB"),
    ],
)
def test_a_template_without_end_ends_and_the_model_is_run_all_the_same(
    copy_of: smokekit.Copies,
    peak: Peak,
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    seconds: float,
    words: str,
):
    monkeypatch.setattr(run, "PART_SECONDS", seconds)
    monkeypatch.setattr(run, "PART_MEMORY", 512 * MIB)
    folder = copy_of("text")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    report = report_of(folder, ("tokenizer", "load", "forward"))
    (finding,) = report.findings
    assert finding.code == "model-chat-template"
    assert words in finding.message
    verdicts = [one.verdict for one in report.levels]
    assert verdicts == ["failed", "held", "held"]
    assert "come back from their ids" in " ".join(report.levels[0].proved)  # what it saw before
    assert len(peak.pids) == 2
    assert peak.most < 1024 * MIB


def test_what_runs_after_a_template_was_stopped_has_the_tokenizer_all_the_same(
    copy_of: smokekit.Copies, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    """Else the model would be asked other ids, and a record's texts would not be compared."""

    def tell_tokenizer(session: Any) -> Proof:
        return Proof((type(session.tokenizer).__name__,))

    monkeypatch.setattr(run, "PART_SECONDS", 1.0)
    monkeypatch.setitem(worker._CHECKS, "load", tell_tokenizer)
    folder = copy_of("text")
    (folder / "chat_template.jinja").write_text("{{ 10**(10**10) }}", "utf-8")
    report = report_of(folder, ("tokenizer", "load"))
    assert [one.verdict for one in report.levels] == ["failed", "held"]
    assert "Tokenizer" in level_of(report, "load").proved[0]
    assert len(peak.pids) == 2


def test_a_template_that_the_owner_accepts_is_stopped_and_accepted(
    copy_of: smokekit.Copies, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run, "PART_SECONDS", 1.0)
    folder = copy_of("text")
    (folder / "chat_template.jinja").write_text("{{ 10**(10**10) }}", "utf-8")
    report = report_of(folder, ("tokenizer",), accepted=frozenset({"model-chat-template"}))
    (finding,) = report.findings
    assert (finding.accepted, report.exit_code) == (True, 0)
    assert len(peak.pids) == 1


def test_a_tokenizer_that_hangs_is_a_finding(
    models: smokekit.Models, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    def hang(_trial: object) -> None:
        for _ in itertools.count():
            pass

    monkeypatch.setattr(tokenizer_check, "load_tokenizer", hang)
    monkeypatch.setattr(run, "LEVEL_SECONDS", {"structure": 60.0, "tokenizer": 1.0})
    report = report_of(models("text"), ("tokenizer", "structure"))
    (finding,) = [one for one in report.findings if not one.remark]
    assert (finding.code, report.exit_code) == ("model-tokenizer", 25)
    assert "did not come to an end within 1.0 s of processor time" in finding.message
    assert level_of(report, "structure").verdict == "held"
    assert all(map(gone, peak.pids))


# ---- ways to end


def dying(number: signal.Signals) -> Callable[[object], None]:
    def die(_trial: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    return die


@pytest.mark.parametrize(
    ("number", "verdict", "words"),
    [
        (signal.SIGSEGV, "failed", "crashed its process (SIGSEGV)"),
        (signal.SIGABRT, "failed", "crashed its process (SIGABRT)"),
        (signal.SIGKILL, "skipped", "ended from outside (SIGKILL), as by a system without memory"),
        (signal.SIGTERM, "skipped", "ended from outside (SIGTERM)"),
    ],
)
def test_a_child_that_a_signal_ends(
    models: smokekit.Models,
    peak: Peak,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    verdict: str,
    words: str,
):
    monkeypatch.setitem(worker._CHECKS, "load", dying(number))
    report = report_of(models("text"), ("tokenizer", "load", "forward", "golden"))
    assert [one.verdict for one in report.levels] == ["held", verdict, "skipped", "skipped"]
    load = level_of(report, "load")
    said = load.reason or load.findings[0].message
    assert words in said
    assert level_of(report, "forward").reason == "Level load did not hold."
    assert report.exit_code == (25 if verdict == "failed" else 4)
    assert len(peak.pids) == 2  # the second one knows how the first one ended


def test_a_child_that_does_nothing_is_ended(
    models: smokekit.Models, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(worker._CHECKS, "forward", lambda _: time.sleep(600))
    monkeypatch.setattr(run, "IDLE_SECONDS", 1.0)
    report = report_of(models("text"), ("load", "forward"))
    (finding,) = report.findings
    assert finding.code == "model-output"
    assert "hung: it neither read nor computed" in finding.message
    assert all(map(gone, peak.pids))


def test_a_child_that_computes_without_end_is_ended(
    models: smokekit.Models, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    def spin(_trial: object) -> None:
        for _ in itertools.count():
            pass

    monkeypatch.setitem(worker._CHECKS, "load", spin)
    monkeypatch.setattr(run, "SILENT_SECONDS", 1.0)
    report = report_of(models("text"), ("load",))
    assert "came to no end" in report.findings[0].message
    assert report.exit_code == 25
    assert all(map(gone, peak.pids))


@pytest.mark.parametrize("level", LEVELS)
def test_an_error_that_nobody_foresaw_is_a_finding(
    models: smokekit.Models, peak: Peak, monkeypatch: pytest.MonkeyPatch, level: Level
):
    monkeypatch.setitem(worker._CHECKS, level, lambda _: {}["\x1b[31m"])
    report = report_of(models("text"), (level,))
    (finding,) = report.findings
    assert finding.message.startswith(
        f"Level {level} ended in an error that nobody foresaw: KeyError"
    )
    assert finding.message.isprintable()
    assert report.exit_code == 25
    assert len(peak.pids) == 1


def test_a_disk_that_fails_is_no_fault_of_the_model(
    models: smokekit.Models, peak: Peak, monkeypatch: pytest.MonkeyPatch
):
    def fail(_session: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/nowhere/x")

    monkeypatch.setitem(worker._CHECKS, "load", fail)
    with pytest.raises(NoSpaceError, match="/nowhere/x while the model was tested"):
        report_of(models("text"), ("load",))
    assert all(map(gone, peak.pids))


def test_what_a_library_writes_in_a_child_that_is_killed_is_removed(
    models: smokekit.Models, peak: Peak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def write_and_die(_session: object) -> None:
        Path(tempfile.mkdtemp(), "x").write_bytes(b"x")
        (tmp_path / "written").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(worker._CHECKS, "load", write_and_die)
    report = report_of(models("text"), ("load",))
    assert level_of(report, "load").verdict == "skipped"
    assert [path.name for path in tmp_path.iterdir()] == ["written"]
    assert all(map(gone, peak.pids))


def test_a_child_has_no_secrets_and_is_offline_from_its_first_step(
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "ARCHIVER_KEY_PASSWORD"):
        monkeypatch.setenv(name, "not-for-strangers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with run.start_worker() as child:
        # the system shows the parent's own until the child has become another program
        until = time.monotonic() + 60
        while b"archiver.smoke.worker" not in Path(f"/proc/{child.pid}/cmdline").read_bytes():
            assert time.monotonic() < until
        variables = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
        child.kill()
    assert not any(b"not-for-strangers" in variable for variable in variables)
    assert {b"HF_HUB_OFFLINE=1", b"OMP_NUM_THREADS=1"} <= set(variables)


def test_errors_of_archiver_s_own_come_through_as_they_were():
    unreadable = UnreadableError("It may not be read.", hint="Ask for it.")
    gone = DamageError("Gone.", hint="Repair it.", object="a", pack="b", path="c")
    for error in (gone, NoSpaceError("Full."), UnfinishedModelError("Half."), unreadable):
        came = Raised.of(error).error
        assert type(came) is type(error)
        assert vars(came) == vars(error)
    link = LinkedFolderError(Path("/nowhere"))
    assert Raised.of(link).error.message == link.message  # as the class above it
    assert type(Raised("SystemExit", "x", "").error).__name__ == "ArchiverError"


# ---- what a child tells


def writing(data: bytes) -> Callable[[int, int], None]:
    def serve(requests: int, events: int) -> None:
        os.read(requests, 1 << 16)
        os.write(events, data)

    return serve


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x01\xc1",
        b"\0\0\0\x04abcd",
        b"\0\0\0\x09ab",
        framed(Finished({})),
    ],
)
def test_a_child_that_talks_nonsense_is_a_finding(
    models: smokekit.Models, peak: Peak, monkeypatch: pytest.MonkeyPatch, data: bytes
):
    monkeypatch.setattr(worker, "serve", writing(data))
    report = report_of(models("text"), ("structure",))
    assert [one.code for one in report.findings] == ["model-load"]
    assert len(peak.pids) == 1


def test_events_come_as_they_were_however_they_are_cut():
    events = [Advanced(7), Broke("x"), Finished({"a": [1]})]
    data = b"".join(map(framed, events))
    for step in (1, 3, len(data)):
        reader = EventReader()
        pieces = (data[at : at + step] for at in range(0, len(data), step))
        assert [event for piece in pieces for event in reader.feed(piece)] == events
    with pytest.raises(msgspec.ValidationError):
        EventReader().feed(b"\x7f\xff\xff\xff")


# ---- processes


def processes_of(session: int) -> list[int]:
    """Those whose parent this is."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def started(weights: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, zygote: Any) -> Any:
    """A command that has begun to run a model."""
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    child = zygote.start("smoke-test", "-C", weights, "me/dense")
    until = time.monotonic() + 600
    while not any(scratch.glob("*/*")) and time.monotonic() < until:
        time.sleep(0.01)
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_the_parent_ends_the_child(
    model_zygote: Any,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
):
    child = started(weights, tmp_path / "scratch", monkeypatch, model_zygote)
    (own,) = processes_of(child.pid)
    os.kill(child.pid, number)
    assert child.wait().code == 130
    assert gone(own)
    assert not any((tmp_path / "scratch").iterdir())


def test_a_child_that_lets_no_thread_run_ends_with_its_parent_too(tmp_path: Path):
    """A library that computes without Python keeps a thread from seeing that the parent is gone."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import subprocess, sys, time\n"
        "code = ('import os; from archiver.smoke import worker; worker._end_with_parent(); '\n"
        "        'print(os.getpid(), flush=True); 10**(10**10)')\n"
        "child = subprocess.Popen([sys.executable, '-c', code], stdout=1)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        own = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 60
    while not gone(own) and time.monotonic() < until:
        time.sleep(0.01)
    assert gone(own)


def test_a_child_whose_parent_was_killed_ends_by_itself(
    model_zygote: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    child = started(weights, tmp_path / "scratch", monkeypatch, model_zygote)
    (own,) = processes_of(child.pid)
    child.kill()
    child.wait()
    until = time.monotonic() + 60
    while not gone(own) and time.monotonic() < until:
        time.sleep(0.01)
    assert gone(own)


def test_a_new_interpreter_takes_nothing_from_the_current_folder(
    copy_of: smokekit.Copies, tmp_path: Path
):
    folder = copy_of("text")
    for name in ("torch", "json", "msgspec", "archiver"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with edited(folder / "config.json") as content:
        content["num_labels"] = 10**9
    words = [str(Path(sys.executable).with_name("archiver")), "--json", "smoke-test", "."]
    done = subprocess.run(
        [*words, "--level", "structure"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 25, done
    codes = [record.get("code") for record in map(json.loads, done.stdout.splitlines())]
    assert "model-config" in codes
    assert not (tmp_path / "run").exists()


def test_the_page_says_the_numbers_that_the_code_has():
    page = (Path(__file__).parents[2] / "docs/smoke-test.md").read_text("utf-8")
    _, _, rest = page.partition("## What a model may cost")
    table = rest.partition("## Every night")[0]
    files, tokens = (run.LEVEL_SECONDS[level] for level in ("structure", "tokenizer"))
    for words in (
        f"{human_bytes(run.FILES_MEMORY)} of memory; {files / 3600:.0f} h, {tokens / 60:.0f} min of",
        f"{run.PART_MEMORY // MIB} MiB more than there was, {run.PART_SECONDS:.0f} s of processor time",
        f"at least {run.LEAST_MEMORY // (1024 * MIB)} GiB in the first two levels",
        f"each other one {run.ROOM // MIB} MiB more",
        f"{run.IDLE_SECONDS / 60:.0f} minutes without a byte read or computing",
        f"{run.SILENT_SECONDS / 3600:.0f} hours without a byte read or an end",
    ):
        assert words in table
