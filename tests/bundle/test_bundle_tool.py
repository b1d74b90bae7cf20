"""A bundle that brings archiver itself: which wheels, that they are checked, and that nothing else runs.

The wheels are hollow here; ``test_bundle_bare_machine.py`` installs real ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import msgspec
import pytest
from bundlekit import SMALL, document, files, flip, linked, replace, volumes_of
from kit.wheels import HERE, MINOR, OWN, hollow_wheels, wheel

from archiver.archive.bundles.records import checked, file_of, parse_volume
from archiver.digest import blake3_hex

OTHER = MINOR + 1


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    return hollow_wheels(tmp_path_factory.mktemp("wheels") / "folder")


@pytest.fixture
def bring_tool(export, tmp_path, wheels):
    """Export a small repository and the tool; return the first volume."""

    def call(*words, to=None, folder=None, code=0, targets=(HERE,)):
        to = to or tmp_path / "to"
        asked = [word for target in targets for word in ("--with-tool", target)]
        done = export(to, *asked, "--tool-wheels", folder or wheels, *words, references=[SMALL])
        assert done.code == code, done.err
        return to / "volume-0001" if code == 0 else done

    return call


@pytest.fixture
def stick(bring_tool):
    return bring_tool()


def tools_of(volume) -> dict[str, list]:
    return {row[0]: row for row in document(volume, "bundle.json")["tools"]["files"]}


def install(volume, *words, script="install.py", cwd=None):
    program = ["sh"] if script.endswith(".sh") else [sys.executable, "-I", "-B"]
    return subprocess.run(
        [*program, volume / "tools" / script, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_every_wheel_is_listed_with_what_it_is(stick, run):
    tools = tools_of(stick)
    assert document(stick, "bundle.json")["tools"]["targets"] == [HERE]
    assert {path.name for path in (stick / "tools").iterdir()} == {name[6:] for name in tools}
    for name, (_, size, _, sha256, *_) in tools.items():
        data = (stick / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)
        assert name == name.lower()
        assert len(name) <= 115
    blake3 = next(row for row in tools.values() if row[4] == "blake3")
    assert blake3[5:] == [metadata.version("blake3"), "MIT"]
    assert next(row for row in tools.values() if row[4] == OWN)[6] == "Apache-2.0"
    assert [row[:4] for row in document(stick, "volume.json")["tools"]] == [
        row[:4] for row in tools.values()
    ]
    sheet = (stick / "MANIFEST.md").read_text()
    for name, row in tools.items():
        assert f"| `{name}` | {row[1]:,} | `{row[3]}` |" in sheet
    assert run("bundle", "verify", "-q", stick).code == 0
    sums = subprocess.run(
        ["sha256sum", "-c", "--quiet", "sha256sums.txt"],
        cwd=stick,
        capture_output=True,
        check=False,
    )
    assert (sums.returncode, sums.stdout) == (0, b"")


def test_the_same_export_gives_the_same_bytes(stick, bring_tool, tmp_path):
    assert files(bring_tool(to=tmp_path / "again")) == files(stick)


def test_only_the_first_volume_has_it(export, wheels, tmp_path):
    words = ["--with-tool", HERE, "--tool-wheels", wheels]
    assert export(tmp_path / "to", *words).code == 0
    first, *others = volumes_of(tmp_path / "to")
    assert (first / "tools" / "install.sh").is_file()
    assert others
    assert not any((each / "tools").exists() for each in others)
    assert not any(document(each, "volume.json")["tools"] for each in others)


def test_a_volume_has_room_for_it(export, wheels, tmp_path):
    """Its bytes count: no volume becomes larger than was asked for, and what does not fit is refused."""
    words = ["--with-tool", HERE, "--tool-wheels", wheels]
    assert export(tmp_path / "to", *words).code == 0
    for volume in volumes_of(tmp_path / "to"):
        assert sum(map(len, files(volume).values())) <= 8 << 20
    large = shutil.copytree(wheels, tmp_path / "large")
    path = next(large.glob("blake3-*"))
    with path.open("r+b") as file:  # what stands before a zip's own parts is passed over
        data = file.read()
        file.seek(0)
        file.write(bytes(8 << 20) + data)
    done = export(tmp_path / "no", "--with-tool", HERE, "--tool-wheels", large, references=[SMALL])
    assert done.code == 2
    assert "the tool takes" in done.err
    assert not (tmp_path / "no").exists()


# ---- what was changed


@pytest.mark.parametrize(
    "which", ["blake3-*.whl", "weights_archiver-*.whl", "linux-*.txt", "install.sh"]
)
def test_what_was_changed_is_refused_by_the_installer_and_by_verify(stick, run, tmp_path, which):
    (path,) = (stick / "tools").glob(which)
    flip(path)
    name = path.relative_to(stick).as_posix()
    done = install(stick, tmp_path / "into")
    assert done.returncode == 20
    assert f"REFUSED, nothing was installed: {name} is damaged or was changed" in done.stderr
    assert not (tmp_path / "into").exists()
    checked = run("bundle", "verify", "-q", "--json", stick)
    assert checked.code == 20
    (fault,) = checked.only("bundle-verify")["bundles"][0]["faults"]
    assert (fault["name"], fault["kind"]) == (name, "damaged")


def test_what_is_in_no_list_is_refused(stick, run, tmp_path):
    (stick / "tools" / "json.py").write_text("raise SystemExit('this was run')")
    done = subprocess.run(
        [sys.executable, stick / "tools" / "install.py", tmp_path / "into"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 20
    assert "'json.py' is in no list" in done.stderr
    assert "this was run" not in done.stdout + done.stderr
    assert run("bundle", "verify", "-q", stick).code == 20


def test_what_is_missing_or_no_file_is_refused(stick, tmp_path):
    first, second, *_ = sorted((stick / "tools").glob("*.whl"))
    first.unlink()
    second.unlink()
    second.symlink_to("/dev/zero")
    done = install(stick, tmp_path / "into")
    assert done.returncode == 20
    assert f"tools/{first.name} is missing; tools/{second.name} is no plain file" in done.stderr


def test_a_wheel_that_was_changed_in_one_list_contradicts_the_other(stick, run):
    """Whoever changes a wheel and the volume's list still does not have the bundle's."""
    data = json.loads((stick / "bundle.json").read_bytes())
    data["tools"]["files"][0][3] = "0" * 64
    replace(stick / "bundle.json", json.dumps(data, separators=(",", ":")).encode())
    done = run("bundle", "verify", "-q", stick)
    assert done.code == 20
    assert install(stick, "--check").returncode == 20


@pytest.mark.parametrize("how", ["changed", "more", "fewer"])
def test_a_volume_whose_list_was_made_to_fit_contradicts_its_bundle(stick, run, bring, how):
    """Whoever changes a wheel, and `volume.json` with it, still does not have `bundle.json`."""
    volume = parse_volume((stick / "volume.json").read_bytes(), "volume.json")
    tools = {file.name: file for file in volume.tools}
    (path,) = (stick / "tools").glob("click-*")
    name = path.relative_to(stick).as_posix()
    if how == "changed":
        flip(path)
        data = path.read_bytes()
        digests = {"blake3": blake3_hex(data), "sha256": hashlib.sha256(data).hexdigest()}
        tools[name] = msgspec.structs.replace(tools[name], **digests)
    elif how == "more":
        name = "tools/more-1-py3-none-any.whl"
        shutil.copy(path, stick / name)
        tools[name] = msgspec.structs.replace(tools[path.relative_to(stick).as_posix()], name=name)
    else:
        path.unlink()
        del tools[name]
    forged = msgspec.structs.replace(volume, tools=tuple(tools.values()))
    replace(stick / "volume.json", file_of(checked(forged)))
    done = run("bundle", "verify", "-q", "--json", stick)
    assert done.code == 20
    (fault,) = done.only("bundle-verify")["bundles"][0]["faults"]
    assert (fault["name"], fault["kind"]) == (name, "contradicts")
    assert install(stick, "--check").returncode == 20
    assert bring(stick).code == 22


@pytest.mark.parametrize(
    "name", ["../evil.whl", "tools/../evil.whl", "tools/a/b.whl", "tools/A.whl"]
)
def test_a_list_that_leads_elsewhere_is_damaged(stick, run, tmp_path, name):
    data = json.loads((stick / "bundle.json").read_bytes())
    data["tools"]["files"][0][0] = name
    replace(stick / "bundle.json", json.dumps(data, separators=(",", ":")).encode())
    done = install(stick, tmp_path / "into")
    assert (done.returncode, "it lists a file that cannot be" in done.stderr) == (20, True)
    assert run("bundle", "verify", "-q", stick).code == 20


def test_litter_of_a_system_is_no_foreign_file(stick):
    (stick / "tools" / ".DS_Store").write_bytes(b"x")
    (stick / "tools" / "._install.py").write_bytes(b"x")
    assert install(stick, "--check").returncode == 0


# ---- going on


def test_an_export_that_was_interrupted_goes_on_with_the_same_wheels(
    stick, bring_tool, wheels, tmp_path
):
    """A newer wheel that came meanwhile is not taken: the list was made."""
    before = files(stick)
    (stick / "volume.json").unlink()
    next((stick / "tools").glob("click-*")).unlink()
    more = shutil.copytree(wheels, tmp_path / "more")
    wheel(more, "click", "999")
    assert files(bring_tool(folder=more)) == before


def test_a_wheel_that_became_another_one_is_not_put_in_its_place(
    stick, bring_tool, wheels, tmp_path
):
    (stick / "volume.json").unlink()
    next((stick / "tools").glob("click-*")).unlink()
    other = shutil.copytree(wheels, tmp_path / "other")
    wheel(other, "click", metadata.version("click"), licence="Other")
    done = bring_tool(folder=other, code=2)
    assert "is another one than when this bundle was begun" in done.err


def test_what_is_there_needs_no_wheels_again(stick, bring_tool, tmp_path):
    before = files(stick)
    (stick / "volume.json").unlink()
    assert files(bring_tool(folder=tmp_path / "gone")) == before


def test_later_volumes_need_no_wheels(export, wheels, tmp_path):
    words = ["--with-tool", HERE, "--tool-wheels"]
    assert export(tmp_path / "one", *words, wheels, "--volume", "1").code == 0
    assert export(tmp_path / "two", *words, tmp_path / "gone", "--volume", "2").code == 0
    one, two = (
        document(tmp_path / name, "bundle.json") for name in ("one/volume-0001", "two/volume-0002")
    )
    assert one == two


# ---- which wheels


def test_what_is_not_there_is_named(bring_tool, wheels, tmp_path):
    few = shutil.copytree(wheels, tmp_path / "few")
    next(few.glob("click-*")).unlink()
    next(few.glob("rich-*")).unlink()
    done = bring_tool(folder=few, code=2)
    assert "has no wheel" in done.err
    assert "click>=8.2, rich>=14" in done.err


def test_a_wheel_that_is_damaged_is_named(bring_tool, wheels, tmp_path):
    """What describes it is packed, as in most wheels; its bytes there are none that any packer writes."""
    folder = shutil.copytree(wheels, tmp_path / "folder")
    (path,) = folder.glob("click-*")
    about = f"click-{metadata.version('click')}.dist-info/METADATA"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(about, b"Metadata-Version: 2.4\nName: click\n" * 50)
        begin = packed.getinfo(about).header_offset + 30 + len(about)
    data = bytearray(path.read_bytes())
    data[begin : begin + 8] = b"\xff" * 8
    path.write_bytes(data)
    done = bring_tool(folder=folder, code=20)
    assert f"{path} is no wheel that can be read" in done.err
    assert "Fetch it again" in done.err


def test_what_a_wheel_needs_on_that_machine_comes_along(bring_tool, wheels, tmp_path):
    """By its markers, as that machine sees them, and not as this one does."""
    folder = shutil.copytree(wheels, tmp_path / "folder")
    requires = [
        f"only-new; python_version >= '3.{OTHER}'",
        "only-windows; sys_platform == 'win32'",
        "with-parts[fast]>=2",
        "capped<2",
        "of-a-part; extra == 'part'",
    ]
    wheel(folder, "rich", metadata.version("rich"), requires=requires)
    wheel(folder, "only-new")
    wheel(folder, "capped", "1.5")
    wheel(folder, "capped", "2.0")
    wheel(folder, "with-parts", "1.0")
    wheel(folder, "with-parts", "2.0", requires=["quick; extra == 'fast'"])
    wheel(folder, "quick", "1", tag=f"cp3{MINOR}-cp3{MINOR}-manylinux_2_17_x86_64")
    wheel(folder, "quick", "1", tag=f"cp3{OTHER}-cp3{OTHER}-manylinux_2_17_x86_64")
    wheel(folder, "quick", "2", tag=f"cp3{OTHER}-cp3{OTHER}-manylinux_2_39_x86_64")
    wheel(folder, "quick", "3", tag=f"cp3{OTHER}-cp3{OTHER}-musllinux_1_2_x86_64")
    volume = bring_tool(folder=folder, targets=(HERE, f"linux-x86_64,py3{OTHER}"))
    lists = {
        minor: (volume / "tools" / f"linux-x86_64-py3{minor}.txt").read_text()
        for minor in (MINOR, OTHER)
    }
    assert "only-new" not in lists[MINOR]
    assert "only-new==1.0 " in lists[OTHER]
    both = "".join(lists.values())
    assert "only-windows" not in both
    assert "of-a-part" not in both
    assert "with-parts==1" not in both
    assert both.count("capped==1.5 ") == 2
    assert "capped==2" not in both
    assert both.count("quick==1 ") == 2
    assert len(list((volume / "tools").glob("quick-1-*"))) == 2


def test_names_fit_every_medium(bring_tool, wheels, tmp_path):
    """Of several platforms that a name lists the oldest is kept; a version that is too long is refused."""
    folder = shutil.copytree(wheels, tmp_path / "folder")
    next(folder.glob("msgspec-*")).unlink()
    version = metadata.version("msgspec")
    platforms = (
        "manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux2010_x86_64.manylinux_2_12_x86_64"
    )
    wheel(folder, "msgspec", version, tag=f"cp3{MINOR}-cp3{MINOR}-{platforms}")
    volume = bring_tool(folder=folder)
    (path,) = (volume / "tools").glob("msgspec-*")
    assert path.name == f"msgspec-{version}-cp3{MINOR}-cp3{MINOR}-manylinux_2_12_x86_64.whl"
    next(folder.glob("msgspec-*")).unlink()
    wheel(folder, "msgspec", f"{version}+{'x' * 100}")
    done = bring_tool(folder=folder, to=tmp_path / "no", code=2)
    assert "has a name that not every medium can hold" in done.err


@pytest.mark.parametrize(
    "target", ["linux-x86_64", "linux-x86_64,py310", "windows-amd64,py311", ""]
)
def test_a_machine_that_is_none_is_refused(bring_tool, target):
    assert (
        "is no machine that the tool can be brought to" in bring_tool(code=2, targets=[target]).err
    )


def test_wheels_for_no_machine_are_a_mistake(bring_tool):
    assert "nothing asks for them" in bring_tool(code=2, targets=[]).err


def test_an_optional_part_that_is_none_is_refused(bring_tool):
    done = bring_tool(code=2, targets=[f"{HERE},wings"])
    assert "no optional part that is called 'wings'" in done.err
    assert "There are: mount, notices, pages, serve, smoke" in done.err


def test_pip_fetches_them(export, wheels, tmp_path, monkeypatch):
    """What pip takes for needless, because it looks at markers from here, is asked for once more."""
    index = shutil.copytree(wheels, tmp_path / "index")
    wheel(index, "click", "999")  # what runs here is what is carried
    wheel(
        *(index, "rich", metadata.version("rich")),
        requires=[f"only-new; python_version >= '3.{OTHER}'"],
    )
    wheel(index, "only-new")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": index, "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    done = export(tmp_path / "to", "--with-tool", f"linux-aarch64,py3{OTHER}", references=[SMALL])
    assert done.code == 0, done.err
    listed = (tmp_path / "to/volume-0001/tools" / f"linux-aarch64-py3{OTHER}.txt").read_text()
    assert f"click=={metadata.version('click')} " in listed
    assert "only-new==1.0 " in listed
    next(index.glob("only_new-*")).unlink()
    done = export(tmp_path / "no", "--with-tool", f"linux-aarch64,py3{OTHER}", references=[SMALL])
    assert done.code == 30
    assert "pip could not fetch the wheels" in done.err
    assert "only-new" in done.err
    assert not (tmp_path / "no").exists()


# ---- what the installer says


def test_a_bundle_without_the_tool_says_so(stick, tmp_path):
    data = json.loads((stick / "bundle.json").read_bytes())
    data["tools"] = None
    replace(stick / "bundle.json", json.dumps(data).encode())
    done = install(stick)
    assert done.returncode == 10
    assert "does not bring the tool" in done.stderr


def test_a_folder_that_is_not_empty_is_left_alone(stick, tmp_path):
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "mine").write_text("mine")
    done = install(stick, tmp_path / "into", script="install.sh")
    assert done.returncode == 2
    assert "not an empty folder" in done.stderr
    assert (tmp_path / "into" / "mine").read_text() == "mine"


def test_what_a_run_that_was_killed_left_is_begun_anew(stick, tmp_path):
    """Its mark says that the folder is the installer's own; hollow wheels install, and do not start."""
    into = tmp_path / "into"
    (into / "lib").mkdir(parents=True)
    (into / "archiver-install-unfinished").write_text("")
    done = install(stick, into)
    assert done.returncode == 1
    assert "Starting archiver failed" in done.stderr
    assert not into.exists()


@pytest.mark.parametrize("name", ["a:b", 'a"b', "a$HOME", "a`b", "a\\b", "a\nb"])
def test_a_folder_from_which_no_program_starts_is_refused_before_anything_is_made(
    stick, tmp_path, name
):
    done = install(stick, tmp_path / "new" / name)
    assert done.returncode == 2
    assert "cannot be where programs start from" in done.stderr
    assert "Name a folder without" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_pipe_in_the_place_of_a_document_is_not_waited_for(stick, tmp_path):
    (stick / "bundle.json").unlink()
    os.mkfifo(stick / "bundle.json")
    done = install(stick, tmp_path / "into")
    assert done.returncode == 20
    assert "is damaged" in done.stderr


def test_another_python_is_told_which(bring_tool, tmp_path):
    volume = bring_tool(targets=["linux-x86_64,py398"])
    done = install(volume, tmp_path / "into")
    assert done.returncode == 2
    assert "the tool was brought for Python 3.98" in done.stderr
    assert f"--with-tool linux-x86_64,py3{MINOR}" in done.stderr


def test_another_machine_is_told_which(bring_tool, tmp_path):
    volume = bring_tool(targets=[f"linux-aarch64,py3{MINOR}"])
    done = install(volume, tmp_path / "into")
    assert done.returncode == 2
    assert f"The tool was brought for linux-aarch64-py3{MINOR}." in done.stderr


def test_an_install_that_fails_leaves_nothing(stick, tmp_path):
    """Hollow wheels install, and do not start."""
    done = install(stick, tmp_path / "into")
    assert done.returncode == 1
    assert "Starting archiver failed" in done.stderr
    assert f"MiB are free in {tmp_path / 'into'}" in done.stderr
    assert not (tmp_path / "into").exists()


def test_no_setting_of_that_machine_reaches_pip(stick, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    done = install(stick, tmp_path / "into")
    assert "Starting archiver failed" in done.stderr, "hollow wheels install, and do not start"
    assert not (tmp_path / "elsewhere").exists()


def test_pip_or_uv_installs_where_there_is_no_ensurepip(stick, tmp_path, monkeypatch):
    """Which one is there is asked of the Python that runs; with neither of them nothing is begun."""
    spec = importlib.util.spec_from_file_location("install", stick / "tools" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    commands = []
    monkeypatch.setattr(module, "run", lambda command, *_: commands.append(command))
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/bin/{name}")
    into = tmp_path / "into"
    for there, installer in (
        (
            ["import ensurepip, venv", "import pip, venv", "import venv"],
            [str(into / "bin" / "python")],
        ),
        (["import pip, venv", "import venv"], [sys.executable]),
        (["import venv"], ["/bin/uv"]),
    ):
        monkeypatch.setattr(module, "runs", lambda command, there=there: command[-1] in there)
        commands.clear()
        module.install(stick / "tools" / "list.txt", into, str(tmp_path))
        make, command = commands
        assert ("--without-pip" in make) == (there[0] != "import ensurepip, venv")
        assert command[:1] == installer
        for word in ("--no-index", "--require-hashes", "--no-deps"):
            assert word in command
    monkeypatch.setattr(module, "runs", lambda _: False)
    with pytest.raises(module.Stop, match="has neither ensurepip nor pip, and there is no uv"):
        module.install(stick / "tools" / "list.txt", into, str(tmp_path))


def test_a_folder_that_cannot_be_made_is_one_sentence_and_the_next_step(stick):
    done = install(stick, "/proc/archiver")
    assert done.returncode == 1
    assert "install.py: /proc/archiver: No such file or directory." in done.stderr
    assert "Name a folder on a disk with room" in done.stderr


def test_the_far_side_takes_the_models_in_and_not_the_tool(stick, bring, far):
    assert bring(stick).code == 0
    assert not list(far.rglob("*.whl"))
    assert not (far / "tools").exists()


def test_verify_tells_of_parity_and_tools_together(bring_tool, run, tmp_path):
    volume = bring_tool("--parity", "2")
    media = linked(volume, tmp_path / "media" / "volume-0001")
    flip(next(media.rglob("*.pack")))
    flip(next((media / "tools").glob("rich-*")))
    done = run("bundle", "verify", "-q", "--json", media)
    healed = {
        fault["name"]: fault["healed"]
        for fault in done.only("bundle-verify")["bundles"][0]["faults"]
    }
    assert sorted(healed.values()) == [False, True]
    assert not next(value for name, value in healed.items() if name.startswith("tools/"))
