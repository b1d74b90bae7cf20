"""What a night does besides mirroring: copies, audits, signatures, commands, metrics, pings and notices."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kit.archive import Weights
from kit.disks import memory_disk, needs_mount, skip_unless_mountable
from prometheus_client.parser import text_string_to_metric_families

from archiver.night import delivery


def facts(result, which="new"):
    return [(fact["fact"], fact["subject"]) for fact in result.only("night")[which]]


def step(result, name):
    (found,) = [each for each in result.kinds("step") if each["step"] == name]
    return found


# ---- copies


@pytest.fixture
def replica(run, archive, tmp_path):
    """A replica, begun by a person."""

    def make(folder):
        code = run("copy", "-q", "-C", archive.root, "--new", folder, "--min-free", "0B").code
        assert code == 0
        return Weights(folder)

    return make


def test_a_copy_gets_what_it_lacks_and_an_idle_night_leaves_it_alone(
    night, run, repositories, archive, plan, replica, tmp_path
):
    copy = replica(tmp_path / "disk" / "copy")
    path = plan("org/a", night=f'copies = ["{copy.root}"]')
    first = night(path)
    assert (first.code, step(first, "copies")["outcome"]) == (0, "done")
    assert step(first, "copies")["counts"]["brought"] == 1
    audit = run("audit", "-q", "-C", copy.root)
    assert audit.code == 0, (audit.err, list(copy.root.iterdir()), step(first, "copies"))
    events = len(archive.documents("journal"))
    second = night(path)
    assert (second.code, step(second, "copies")["outcome"]) == (0, "idle")
    assert len(archive.documents("journal")) - events == 1


def test_a_disk_that_is_away_is_never_begun_anew_and_ages_into_an_alarm(
    night, run, clock, repositories, archive, plan, replica, tmp_path
):
    assert (
        run("policy", "set", "-q", "-C", archive.root, "--copies", "2", "--copy-age", "20d").code
        == 0
    )
    place = tmp_path / "disk" / "copy"
    copy = replica(place)
    path = plan("org/a", night=f'copies = ["{place}"]')
    assert night(path).code in {0, 24}  # one device counts once
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    codes = []
    for day in range(6):
        clock.forward(days=5)
        result = night(path)
        codes.append(result.code)
        assert step(result, "copies")["outcome"] == "away"
        assert not place.exists()
        if not day:
            verdict = result.only("night")["verdict"]
            assert "all is well" not in verdict, verdict
            assert f"{place} failed" not in verdict, verdict
        if result.code:
            assert ("copy-old", copy_name(result)) in facts(result), day
    assert [code for code in codes if code] == [24]
    (tmp_path / "elsewhere").rename(tmp_path / "disk")
    clock.forward(days=1)
    back = night(path)
    assert step(back, "copies")["outcome"] == "done"
    assert copy.root == place


def test_a_proof_that_a_copy_earned_is_known_at_home_the_same_night(
    night, run, clock, repositories, archive, plan, replica, tmp_path
):
    copy = replica(tmp_path / "copy")
    path = plan("org/a", night=f'copies = ["{copy.root}"]\naudit = {{ share = "100%" }}')
    assert night(path).code == 0
    clock.forward(days=1)
    result = night(path)
    assert step(result, "copies")["outcome"] == "idle", "nothing else brings it home"
    assert step(result, f"audit of {copy.root}")["counts"]["proven"] == 1
    places = run("status", "--copies", "-C", archive.root, "--json").kinds("place")
    (place,) = [each for each in places if each["standing"] != "here"]
    assert place["proven"][:10] == f"{clock.now:%Y-%m-%d}"
    events = len(archive.documents("journal"))
    assert night(path).code == 0
    assert len(archive.documents("journal")) - events == 1, "known is not journalled again"


@needs_mount
@pytest.mark.parametrize(("wanted", "code"), [(2, 0), (3, 24)])
def test_a_copy_that_is_away_excuses_only_what_it_would_mend(
    night, run, clock, repositories, archive, plan, replica, tmp_path, wanted, code
):
    """With it there are two copies: that a third is missing is no matter of patience."""
    skip_unless_mountable()
    disk = tmp_path / "disk"
    run("policy", "set", "-q", "-C", archive.root, "--copies", wanted, "--copy-age", "20d")
    path = plan("org/a", night=f'copies = ["{disk / "copy"}"]')
    with memory_disk(disk):
        replica(disk / "copy")
        assert night(path).code == code
    repositories.commit("org/a", {"more.bin": b"new"})
    clock.forward(days=1)
    away = night(path)
    assert (away.code, step(away, "copies")["outcome"]) == (0, "away"), "what is short is known"
    stands = [fact for which in ("new", "known") for fact in away.only("night")[which]]
    assert [fact["exit_code"] for fact in stands if fact["fact"] == "copies"] == [code]


def test_a_copy_on_the_same_disk_never_counted_and_excuses_nothing(
    night, run, clock, repositories, archive, plan, replica, tmp_path
):
    place = tmp_path / "disk" / "copy"
    replica(place)
    run("policy", "set", "-q", "-C", archive.root, "--copies", "2")
    path = plan("org/a", night=f'copies = ["{place}"]')
    assert ("copies", "") in facts(night(path))
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    repositories.commit("org/a", {"more.bin": b"new"})
    clock.forward(days=1)
    away = night(path)
    assert ("copies", "") in facts(away, "known"), "it is as short as it was"
    (known,) = [fact for fact in away.only("night")["known"] if fact["fact"] == "copies"]
    assert known["exit_code"] == 24


def copy_name(result):
    (name,) = [subject for kind, subject in facts(result) if kind == "copy-old"]
    return name


def test_a_folder_with_something_else_is_no_place_to_copy_to(
    night, repositories, archive, plan, tmp_path
):
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    result = night(plan("org/a", night=f'copies = ["{other}"]'))
    assert (result.code, facts(result)) == (3, [("place", str(other))])
    assert [path.name for path in other.iterdir()] == ["letter.txt"]


# ---- proofs and signatures


def test_the_oldest_proofs_are_renewed_within_the_budget(night, clock, repositories, archive, plan):
    path = plan("org/a", "org/b", "org/c", night='audit = { share = "40%" }')
    assert step(night(path), "audit")["counts"]["proven"] == 1
    proven = 1
    for _ in range(2):
        result = night(path)
        proven += step(result, "audit")["counts"]["proven"]
    assert proven == 3
    events = len(archive.documents("journal"))
    idle = night(path)
    assert (step(idle, "audit")["outcome"], len(archive.documents("journal")) - events) == (
        "idle",
        1,
    )
    clock.forward(days=1)
    assert step(night(path), "audit")["counts"]["proven"] == 1


def test_a_night_opens_each_event_once_in_every_archive(
    night, clock, repositories, archive, plan, replica, readings, tmp_path
):
    copy = replica(tmp_path / "copy")
    path = plan("org/a", night=f'copies = ["{copy.root}"]\naudit = {{ share = "100%" }}')
    for day in range(4):
        repositories.commit("org/a", {"notes.txt": b"%d" % day})
        assert night(path).code == 0
        clock.forward(days=1)
    readings.clear()
    result = night(path)
    assert step(result, "audit")["counts"]["proven"], "packs are due, and documents are not"
    events = {name: count for name, count in readings.items() if name.startswith("journal/")}
    assert len(events) > 40
    # Those that this night wrote are followed and brought over besides.
    assert max(events[name] for name in sorted(events)[:40]) == 2, "once here, and once in the copy"


def test_documents_are_read_once_a_week_and_while_something_of_them_stands(
    night, run, clock, repositories, archive, plan, readings
):
    path = plan("org/a", night='parity = true\naudit = { share = "100%" }')
    assert run("policy", "set", "-q", "-C", archive.root, "--parity", "2").code == 0
    assert night(path).code == 0
    sidecar = next((archive.root / "parity").rglob("*.par"))
    name = ("damaged", str(sidecar.relative_to(archive.root)))
    whole = sidecar.read_bytes()
    sidecar.chmod(0o644)
    sidecar.write_bytes(whole[: len(whole) // 2])
    codes = {}
    for day in range(1, 10):
        clock.forward(days=1)
        readings.clear()
        result = night(path)
        codes[day] = result.code
        assert step(result, "audit")["outcome"] != "idle", "a pack is due each day"
        if result.code:
            assert name in facts(result) + facts(result, "known")
        else:
            assert not any(each.startswith("parity/") for each in readings)
    assert codes == {day: 20 if day >= 8 else 0 for day in codes}
    assert run("repair", "-q", "-C", archive.root, "--no-upstream").code == 0
    clock.forward(days=1)
    assert name in facts(night(path), "mended")
    clock.forward(days=1)
    readings.clear()
    assert night(path).code == 0
    assert not any(each.startswith("parity/") for each in readings)


def test_damage_that_the_audit_finds_is_one_fact_by_the_name_of_its_pack(
    night, clock, repositories, archive, plan
):
    path = plan("org/a", night='audit = { share = "100%", level = "content" }')
    assert night(path).code == 0
    (pack,) = (archive.root / "packs").rglob("*.pack")
    data = bytearray(pack.read_bytes())
    data[2000] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    clock.forward(days=1)
    result = night(path)
    name = str(pack.relative_to(archive.root))
    assert result.code == 20
    assert ("damaged", name) in facts(result)
    clock.forward(days=1)
    still = night(path)
    assert (still.code, facts(still)) == (20, [])
    assert ("damaged", name) in facts(still, "known")


def test_what_is_new_is_signed_and_an_idle_night_signs_nothing(
    night, run, repositories, archive, plan, tmp_path
):
    key = tmp_path / "plans" / "night.key"
    path = plan("org/a", night='sign = "night.key"')
    assert run("keys", "new", "-q", key.with_suffix(""), "--no-password").code == 0
    first = night(path)
    assert step(first, "sign")["counts"]["new_signatures"] == 2, step(first, "sign")
    assert step(night(path), "sign")["outcome"] == "idle"


# ---- commands


def test_commands_run_without_a_shell_and_are_told_how_it_went(
    night, repositories, archive, plan, tmp_path
):
    log = tmp_path / "log"
    script = tmp_path / "note.py"
    script.write_text(
        "import os, sys\n"
        f"with open({str(log)!r}, 'a') as log:\n"
        "    print(sys.argv[1:], os.environ.get('ARCHIVER_EXITCODE'), "
        "os.environ.get('ARCHIVER_VERDICT'), file=log)\n"
    )
    commands = (
        f'before = [["python3", "{script}", "$HOME;x"]]\nafter = [["python3", "{script}", "end"]]'
    )
    assert night(plan("org/a", night=commands)).code == 0
    assert log.read_text().splitlines() == [
        "['$HOME;x'] None None",
        "['end'] 0 nightly: all is well: 1 new of 1",
    ]


def test_a_command_that_fails_is_a_fact_with_the_end_of_what_it_said(
    night, repositories, archive, plan
):
    noisy = "import sys; print('x' * 9_000_000); print('the end'); sys.exit(7)"
    result = night(plan("org/a", night=f'before = [["python3", "-c", "{noisy}"]]'))
    assert (result.code, facts(result)) == (3, [("command", "python3")])
    (error,) = step(result, "before")["errors"]
    assert error["message"].startswith("It ended with 7: ")
    assert error["message"].endswith(" / the end")
    assert len(error["message"]) < 2100
    assert step(result, "sync")["outcome"] == "done"


@pytest.mark.parametrize("which", ["file", "folder"])
def test_commands_of_a_plan_that_others_can_write_are_not_run(
    night, repositories, archive, plan, tmp_path, which
):
    path = plan("org/a", night=f'before = [["touch", "{tmp_path}/ran"]]')
    (path if which == "file" else path.parent).chmod(0o777)
    result = night(path)
    assert (result.code, step(result, "before")["outcome"]) == (3, "failed")
    assert not (tmp_path / "ran").exists()
    assert step(result, "sync")["outcome"] == "done"


# ---- metrics


def metrics(path):
    families = text_string_to_metric_families(path.read_text())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_metrics_are_times_and_sizes_that_the_client_library_reads(
    night, clock, repositories, archive, plan, tmp_path
):
    path = plan("org/a", night='prometheus = "archiver.prom"\naudit = { share = "100%" }')
    assert night(path).code == 0
    file = path.parent / "archiver.prom"
    first = metrics(file)
    now = clock.now.timestamp()
    assert first["archiver_night_last_success_timestamp_seconds"] == now
    assert first["archiver_proof_oldest_timestamp_seconds"] == now
    assert now <= first["archiver_upstream_answered_timestamp_seconds"] <= now + 10
    assert (first["archiver_snapshots"], first["archiver_copies_short"]) == (1, 0)
    assert first["archiver_stored_bytes"] > 20_000
    assert first["archiver_free_bytes"] > 0
    clock.forward(days=1)
    repositories.commit("org/a", {"config.json": b"[]"})
    repositories.claim("org/a", "config.json", oid="0" * 40)
    assert night(path).code == 22
    second = metrics(file)
    assert second["archiver_night_last_success_timestamp_seconds"] == now
    assert second["archiver_night_last_end_timestamp_seconds"] == now + 86400
    assert second["archiver_findings"] == 1
    assert sorted(each.name for each in path.parent.iterdir()) == ["archiver.prom", "nightly.toml"]
    assert oct(file.stat().st_mode & 0o777) == "0o644"


def test_metrics_that_cannot_be_written_are_told_and_nothing_is_half_there(
    night, repositories, archive, plan, tmp_path
):
    result = night(plan("org/a", night='prometheus = "no/such/folder/a.prom"'))
    assert (result.code, facts(result)) == (3, [("step", "prometheus")])


# ---- pings and notices


class Listener:
    """A server on the loopback that keeps what it is told."""

    def __init__(self) -> None:
        kept = self.kept = []
        self.hang = threading.Event()
        self.release = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers.get("Content-Length", 0))
                kept.append((self.path, self.rfile.read(length).decode()))
                if listener.hang.is_set():
                    listener.release.wait()
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listener():
    running = Listener()
    yield running
    running.close()


SECRET = "s3cr3t-0123456789"


def secret_file(plan_folder, url, name="url"):
    file = plan_folder / name
    file.write_text(f"# told nobody\n{url}\n")
    file.chmod(0o600)
    return file


def told(archive, *texts):
    """All that was written anywhere."""
    files = [path for path in archive.root.rglob("*") if path.is_file()]
    return "".join((*texts, *(path.read_bytes().decode(errors="replace") for path in files)))


def test_pings_tell_of_the_beginning_and_the_end_with_its_code(
    night, repositories, archive, plan, listener
):
    repositories.delete("org/b")
    path = plan("org/a", "org/b", night='ping = "file:url"')
    secret_file(path.parent, f"http://{listener.address}/ping/{SECRET}?rid=1")
    result = night(path)
    assert result.code == 23
    (start, nothing), (end, body) = listener.kept
    assert (start, nothing) == (f"/ping/{SECRET}/start?rid=1", "")
    assert end == f"/ping/{SECRET}/23?rid=1"
    assert body.startswith("nightly: NEW: org/b is gone upstream\nwatch: ")
    assert SECRET not in told(archive, result.out, result.err)


def test_a_webhook_that_hangs_is_bounded_and_soft(
    night, repositories, archive, plan, listener, monkeypatch
):
    monkeypatch.setattr(delivery, "SECONDS", 0.5)
    listener.hang.set()
    path = plan("org/a", night='ping = "file:url"')
    secret_file(path.parent, f"http://{listener.address}/{SECRET}")
    result = night(path)
    assert result.code == 0
    errors = [
        each["errors"][0]["message"] for each in result.kinds("step") if each["step"] == "ping"
    ]
    assert len(errors) == 2
    assert all("The file url: it took longer than" in message for message in errors)
    assert SECRET not in told(archive, result.out, result.err)


def test_a_notice_is_delivered_by_apprise_when_something_rings_and_not_else(
    night, repositories, archive, plan, listener
):
    path = plan("org/a", night='notify = "file:url"')
    secret_file(path.parent, f"json://{listener.address}/{SECRET}")
    assert night(path).code == 0
    assert listener.kept == []
    repositories.commit("org/a", {"config.json": b"[]"})
    repositories.claim("org/a", "config.json", oid="0" * 40)
    result = night(path)
    assert result.code == 22
    ((where, body),) = listener.kept
    notice = json.loads(body)
    assert where == f"/{SECRET}"
    assert notice["title"] == "nightly: NEW: org/a has wrong digests upstream"
    assert "new: org/a has wrong digests upstream (22)." in notice["message"]
    assert notice["type"] == "warning"
    next_line = notice["message"].splitlines()[-1]
    assert next_line.startswith("next, at ")
    assert next_line.endswith(f":{archive.root}: archiver status -C {archive.root}")
    assert SECRET not in told(archive, result.out, result.err)
    assert night(path).code == 0
    assert len(listener.kept) == 1, "what is known is no news"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file, _: file.chmod(0o644), "is not this user's alone"),
        (lambda file, _: file.unlink(), "cannot be read: No such file"),
        (lambda file, _: file.write_text("nothing"), "does not hold URLs"),
        (lambda file, _: file.write_text("x" * 9000), "is no file of at most 8,192 bytes"),
        (lambda file, _: file.write_text(f"gopher://h/{SECRET}"), "http:// or https:// only"),
        (lambda file, _: file.write_text(f"http://127.0.0.1:1/{SECRET}"), "could not be reached"),
    ],
)
def test_a_secret_that_is_not_one_is_told_without_a_part_of_it(
    night, repositories, archive, plan, listener, spoil, says
):
    path = plan("org/a", night='ping = "file:url"')
    spoil(secret_file(path.parent, f"http://{listener.address}/{SECRET}"), None)
    result = night(path)
    assert result.code == 0
    errors = [
        each["errors"][0]["message"] for each in result.kinds("step") if each["step"] == "ping"
    ]
    assert errors
    assert all(says in message for message in errors)
    assert SECRET not in told(archive, result.out, result.err)


def test_secrets_come_from_credentials_and_the_environment_too(
    night, repositories, archive, plan, listener, tmp_path, monkeypatch
):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secret_file(tmp_path, f"http://{listener.address}/credential", "hook")
    monkeypatch.setenv("HOOK_URL", f"http://{listener.address}/variable")
    path = plan("org/a", night='ping = ["credential:hook", "env:HOOK_URL"]')
    assert night(path).code == 0
    assert [where for where, _ in listener.kept] == [
        "/credential/start",
        "/variable/start",
        "/credential/0",
        "/variable/0",
    ]
    assert os.environ["HOOK_URL"] not in told(archive)


def test_the_report_is_written_into_the_archive(night, repositories, archive, plan):
    result = night(plan("org/a", night="report = true"))
    assert (result.code, step(result, "report")["outcome"]) == (0, "idle")
    assert "org/a" in (archive.root / "report.html").read_text()


def test_a_card_that_wants_to_be_more_than_text_stays_text_in_all_that_a_night_writes(
    night, clock, hub, archive, plan, listener
):
    """Its licence goes from the hub by the journal to verdict, notice, metrics and report."""
    evil = "<script>document.title='ran'</script>\n\x1b]0;ran\x07"
    hub.create("org/evil", {"config.json": b"{}"}, card={"license": "mit"})
    path = plan(
        "org/evil", night='report = true\nprometheus = "archiver.prom"\nnotify = "file:url"'
    )
    secret_file(path.parent, f"json://{listener.address}/hook")
    assert night(path).code == 0
    hub.describe("org/evil", {"license": evil}, b"# no markup\n")
    clock.forward(days=1)
    result = night(path)
    assert (result.code, [kind for kind, _ in facts(result)]) == (23, ["changed"])
    page = (archive.root / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;document.title" in page, "it is told, as text"
    (_, notice) = listener.kept[-1]
    told = [page, result.only("night")["verdict"], *json.loads(notice).values()]
    assert not [text for text in told if "\x1b" in text or "\x07" in text]
    assert metrics(path.parent / "archiver.prom")["archiver_findings"] >= 1


def test_a_copy_earns_proofs_of_its_own_and_its_damage_rings(
    night, run, clock, repositories, archive, plan, replica, tmp_path
):
    copy = replica(tmp_path / "copy")
    path = plan("org/a", night=f'copies = ["{copy.root}"]\naudit = {{ share = "100%" }}')
    assert night(path).code == 0
    (pack,) = (copy.root / "packs").rglob("*.pack")
    data = bytearray(pack.read_bytes())
    data[2000] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    clock.forward(days=1)
    name = ("damaged", str(pack))
    result = night(path)
    assert (result.code, facts(result)) == (20, [name])
    copy.root.rename(tmp_path / "away")
    clock.forward(days=1)
    away = night(path)
    assert (away.code, facts(away, "known"), facts(away, "mended")) == (
        20,
        [name],
        [],
    ), "not looking mends nothing"
    (tmp_path / "away").rename(copy.root)
    assert run("repair", "-q", "-C", copy.root, "--from", archive.root, "--no-upstream").code == 0
    clock.forward(days=1)
    assert name in facts(night(path), "mended")


def test_options_stand_in_for_the_plan_and_a_url_on_the_command_line_is_refused(
    night, repositories, archive, plan, listener, tmp_path
):
    path = plan("org/a", night='ping = "file:url"')
    file = secret_file(tmp_path, f"http://{listener.address}/option")
    options = ("--ping", file, "--prometheus", tmp_path / "own.prom")
    assert night(path, *options).code == 0
    assert [where for where, _ in listener.kept] == ["/option/start", "/option/0"]
    assert metrics(tmp_path / "own.prom")["archiver_snapshots"] == 1
    refused = night(path, "--ping", f"http://{listener.address}/{SECRET}")
    assert refused.code == 2
    assert SECRET not in refused.out + refused.err
