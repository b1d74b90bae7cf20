"""Random lives of an archive and of its copy, against a dictionary that says what must be in them.

``ARCHIVER_TEST_MODEL=500 pytest tests/model -s`` lives five hundred of them, and shrinks a failure.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import httpx2
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from lifekit import (
    CALLS,
    CONTENTS,
    DELETABLE,
    KILLED,
    Files,
    Kept,
    Result,
    Trouble,
    befall,
    call,
    contents_of,
    files_below,
    spoil,
    write_below,
)

from archiver.loopback.hub import Hub

USUAL = 8
EXAMPLES = int(os.environ.get("ARCHIVER_TEST_MODEL", USUAL))
"""How many lives are tried; more by hand."""
STEPS = 20
MEMORY = Path("/dev/shm")

contents = st.dictionaries(
    st.sampled_from(["config.json", "model.bin", "sub/notes.txt", "vocab.json"]),
    st.sampled_from(sorted(CONTENTS)),
    min_size=1,
    max_size=3,
)
places = st.sampled_from(["archive", "copy"])
numbers = st.integers(0, 30)
damages = st.sampled_from(["flip", "cut", "missing"])
troubles = st.none() | st.builds(Trouble, st.sampled_from(["killed", "full"]), st.integers(1, 12))
levels = ["structure", "stored", "content", "files"]


DEEDS: list[st.SearchStrategy[dict]] = []


def deed(**arguments: st.SearchStrategy):
    """A method that is a step of a life; each is as likely as any other, which rules are not."""

    def note(method):
        DEEDS.append(st.fixed_dictionaries({"do": st.just(method.__name__), **arguments}))
        return method

    return note


class Lives(RuleBasedStateMachine):
    """What its owner may do with an archive and its copy, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.hub = Hub().__enter__()
        self.before = os.environ.get("HF_ENDPOINT")
        os.environ["HF_ENDPOINT"] = self.hub.endpoint
        self.count = 0
        self.repositories: set[str] = set()
        self.trouble: Trouble | None = None
        self.touched: set[str] = set()

    def teardown(self) -> None:
        self.hub.stop()
        os.environ.pop("HF_ENDPOINT")
        if self.before is not None:
            os.environ["HF_ENDPOINT"] = self.before
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        self.kept = {name: Kept(self.folder / name) for name in ("archive", "copy")}
        self.done("init", "-C", self.kept["archive"].root)
        self.key = self.folder / "key"
        self.done("keys", "new", "--no-password", self.key)
        trust = ("policy", "set", "--trust", f"{self.key}.pub")
        self.done(*trust, "-C", self.kept["archive"].root)

    # ---- how it is done

    def at(self, place: str) -> Kept:
        """The archive at a place, or the first one while there is no other."""
        name = place if self.kept[place].there else "archive"
        self.touched.add(name)
        return self.kept[name]

    def other(self, kept: Kept) -> Kept:
        (found,) = [one for one in self.kept.values() if one is not kept]
        return found

    def done(self, *words: object) -> Result:
        result = call(*words)
        assert result.code == 0, (words, result.code, result.said)
        return result

    def change(self, *words: object, kept: Kept) -> Result:
        """A command that must succeed, perhaps after it got into trouble."""
        self.suffer(*words, kept=kept)
        return self.done(*words)

    def suffer(self, *words: object, kept: Kept) -> None:
        """The trouble that is due: afterwards nothing is damaged, and all that was there is there."""
        trouble, self.trouble = self.trouble, None
        if trouble is None:
            return
        intact = kept.there and not call("audit", "-C", kept.root).code
        code = befall(trouble, self.folder, *words)
        event(f"{words[0]} {trouble.how}: {code}")
        CALLS[f"{words[0]} {trouble.how} {code}"] += 1
        assert code in {0, KILLED, 31}, (words, trouble, (self.folder / "said").read_text())
        if intact:
            for level in levels:
                self.done("audit", "-C", kept.root, "--level", level)

    def new_folder(self) -> Path:
        self.count += 1
        return self.folder / str(self.count)

    # ---- adding

    @deed(place=places, name=st.sampled_from(["org/one", "org/two"]), files=contents)
    def import_folder(self, place: str, name: str, files: dict[str, str]) -> None:
        made = contents_of(files)
        folder = write_below(self.new_folder(), made)
        self.take_in(self.at(place), made, "import", folder, "--as", name)

    @deed(
        place=places,
        name=st.sampled_from(["hub/one", "hub/two"]),
        files=contents,
        anew=st.booleans(),
    )
    def mirror(self, place: str, name: str, files: dict[str, str], *, anew: bool) -> None:
        if name not in self.repositories:
            self.hub.create(name, contents_of(files))
            self.repositories.add(name)
        elif anew:
            self.hub.commit(name, contents_of(files))
        self.take_in(self.at(place), None, "mirror", name)

    def take_in(self, kept: Kept, files: Files | None, *words: object) -> None:
        before = kept.names(("packs", "manifests", "snapshots"))
        rows = self.change(*words, "-C", kept.root, kept=kept).rows
        (row,) = [row for row in rows if row.get("revision") and row.get("outcome")]
        name, revision = row["repository"], row["revision"]
        kept.live[f"{name}@{revision}"] = files or self.served(name, revision)
        kept.doomed.discard(f"{name}@{revision}")
        policy = self.done("policy", "-C", kept.root).kinds("policy")[0]
        if policy["parity"]:
            new = kept.needed().keys() - before.keys()
            bare = [one for one in new if one.startswith(("packs/", "manifests/", "snapshots/"))]
            assert [one for one in bare if not kept.sidecar(kept.root / one).is_file()] == []

    def served(self, name: str, revision: str) -> Files:
        """The files of a commit, as the hub has them."""
        base = f"{self.hub.endpoint}/{name}/resolve/{revision}"
        listing = httpx2.get(f"{self.hub.endpoint}/api/models/{name}/revision/{revision}").json()
        paths = [one["rfilename"] for one in listing["siblings"]]
        return {path: httpx2.get(f"{base}/{path}", follow_redirects=True).content for path in paths}

    # ---- deleting

    @deed(place=places, number=numbers)
    def forget(self, place: str, number: int) -> None:
        kept = self.at(place)
        if not kept.live:
            return
        title = sorted(kept.live)[number % len(kept.live)]
        words = ("forget", "-C", kept.root, title)
        self.suffer(*words, kept=kept)
        if title in kept.titles():
            self.done(*words)
        kept.forgotten[title] = kept.live.pop(title)
        kept.doomed.add(title)

    @deed(number=numbers)
    def remember(self, number: int) -> None:
        places = [name for name, one in self.kept.items() if one.forgotten]
        if not places:
            return
        kept = self.at(places[number % len(places)])
        title = sorted(kept.forgotten)[number % len(kept.forgotten)]
        words = ("forget", "-C", kept.root, "--undo", title)
        self.suffer(*words, kept=kept)
        result = call(*words)
        back = title in kept.titles()  # perhaps by the run that was killed, at its very end
        assert result.code == 0 or back or not kept.sure, result.said
        if back:
            kept.live[title] = kept.forgotten.pop(title)

    @deed(place=places)
    def prune(self, place: str) -> None:
        kept = self.at(place)
        self.change("prune", "-C", kept.root, "--grace", "0s", kept=kept)
        kept.forgotten.clear()

    @deed(place=places)
    def prune_all(self, place: str) -> None:
        """After three runs there is nothing but what is needed."""
        kept = self.at(place)
        for _ in range(3):
            self.change("prune", "-C", kept.root, "--grace", "0s", kept=kept)
        kept.forgotten.clear()
        assert kept.names(DELETABLE[:3]).keys() == {
            name for name in kept.needed() if not name.startswith("journal/")
        }
        assert list(kept.names(("trash",))) == []

    @deed(place=places)
    def prune_with_patience(self, place: str) -> None:
        """Within the grace nothing moves, but for the parity and signatures of what is in the trash."""
        kept = self.at(place)
        before = kept.names(DELETABLE)
        self.change("prune", "-C", kept.root, "--grace", "4w", kept=kept)
        after = kept.names(DELETABLE)
        assert before.keys() <= after.keys()
        moved = [name.split("/")[2] for name in after.keys() - before.keys()]
        assert set(moved) <= {"parity", "signatures"}

    # ---- keeping

    @deed(place=places)
    def copy_over(self, place: str) -> None:
        self.copy(self.at(place))

    def copy(self, source: Kept) -> None:
        target = self.other(source)
        self.touched |= set(self.kept)
        new = () if (target.root / "archive.json").exists() else ("--new",)
        words = ("copy", "-C", source.root, target.root, "--min-free", "0", *new)
        self.suffer(*words, kept=target)
        before = set(target.live)
        self.done(*words)
        after = target.titles()
        assert before <= after <= before | set(source.live)
        assert set(source.live) - after <= target.doomed
        target.live |= {title: files for title, files in source.live.items() if title in after}
        target.doomed |= source.doomed
        target.heads |= source.heads

    @deed(place=places)
    def lose_all_and_copy_back(self, place: str) -> None:
        lost = self.at(place)
        held = self.other(lost)
        self.copy(lost)
        heads, live = lost.heads, set(lost.live)
        shutil.rmtree(lost.root)
        name = next(name for name, one in self.kept.items() if one is lost)
        self.kept[name] = Kept(lost.root)
        self.copy(held)
        self.kept[name].heads |= heads
        assert live - set(self.kept[name].live) <= held.doomed

    @deed(place=places, off=st.booleans())
    def parity(self, place: str, *, off: bool) -> None:
        kept = self.at(place)
        self.change("parity", "remove" if off else "add", "-C", kept.root, kept=kept)
        assert not off or not kept.names(("parity",))

    @deed(place=places)
    def sign(self, place: str) -> None:
        kept = self.at(place)
        self.change("sign", "-C", kept.root, "--key", f"{self.key}.key", kept=kept)

    @deed(place=places, parity=st.sampled_from([0, 2]), copies=st.sampled_from([1, 2]))
    def want(self, place: str, parity: int, copies: int) -> None:
        kept = self.at(place)
        words = ("--parity", parity, "--copies", copies)
        self.done("policy", "set", "-C", kept.root, *words)

    @deed(place=places)
    def note_heads(self, place: str) -> None:
        kept = self.at(place)
        for row in self.done("head", "-C", kept.root).kinds("head"):
            kept.heads.add(row["id"])

    # ---- damage

    @deed(place=places, number=numbers, count=st.integers(1, 3), how=damages)
    def damage_and_repair(self, place: str, number: int, count: int, how: str) -> None:
        kept = self.at(place)
        self.copy(kept)
        self.damage(kept, number, count, how)
        self.repair(kept, "--from", self.other(kept).root)

    def damage(
        self, kept: Kept, number: int, count: int, how: str, but: frozenset[str] = frozenset()
    ) -> frozenset[str]:
        """Damage files that the other archive has as well, but for some; their names."""
        shared = kept.needed().keys() & self.other(kept).names(("",)).keys() - but
        found = [name for name in kept.needed() if name in shared]
        chosen = {found[(number + 7 * at) % len(found)] for at in range(count if found else 0)}
        for name in chosen:
            spoil(kept.root / name, how)
        kept.sure = False
        return frozenset(chosen)

    def repair(self, kept: Kept, *sources: object) -> None:
        words = ("repair", "-C", kept.root, "--no-upstream", *sources)
        before = files_below(kept.root)
        told = call(*words, "--dry-run")
        now = files_below(kept.root)
        assert {name: now[name] for name in before if "catalogue" not in name} == {
            name: data for name, data in before.items() if "catalogue" not in name
        }
        self.suffer(*words, kept=kept)
        result = self.done(*words)
        if told.kinds("repair")[0]["damage"]:
            assert told.code == 20, (told.said, result.said)
        self.done("audit", "-C", kept.root)

    @deed(number=numbers, how=damages, second=damages)
    def damage_both_and_repair_each_from_the_other(
        self, number: int, how: str, second: str
    ) -> None:
        one = self.at("archive")
        other = self.other(one)
        self.copy(one)
        hit = self.damage(one, number, 2, how)
        self.damage(other, number + 3, 2, second, but=hit)
        self.repair(one, "--from", other.root)
        self.repair(other, "--from", one.root)

    @deed(place=places, number=numbers, how=st.sampled_from(["flip", "cut"]))
    def damage_and_repair_by_parity(self, place: str, number: int, how: str) -> None:
        kept = self.at(place)
        self.change("parity", "add", "-C", kept.root, kept=kept)
        found = [path for path in kept.needed().values() if kept.sidecar(path).is_file()]
        if found:
            spoil(found[number % len(found)], how)
        self.repair(kept)

    @deed(place=places, number=numbers, how=damages)
    def damage_a_pack_and_repair_by_restored_files(self, place: str, number: int, how: str) -> None:
        kept = self.at(place)
        folders = [
            folder for title in kept.live for folder in ("--from", self.restored(kept, title))
        ]
        found = [path for name, path in kept.needed().items() if name.startswith("packs/")]
        if found:
            spoil(found[number % len(found)], how)
            kept.sure = False
        self.repair(kept, *folders)

    @deed(place=places, number=numbers, how=damages)
    def damage_companions(self, place: str, number: int, how: str) -> None:
        """Parity and signatures: nothing depends on them, and they come back."""
        kept = self.at(place)
        self.copy(kept)
        signatures = self.other(kept).names(("signatures",)).keys()
        names = kept.names(("parity", "signatures"))
        found = [path for name, path in names.items() if "parity/" in name or name in signatures]
        if found:
            spoil(found[number % len(found)], how)
        self.everything_comes_out()
        self.repair(kept, "--from", self.other(kept).root)

    @deed(place=places, how=st.sampled_from(["gone", "garbage", "rebuild"]))
    def catalogue(self, place: str, how: str) -> None:
        kept = self.at(place)
        if how == "rebuild":
            self.done("catalogue", "rebuild", "-C", kept.root)
            return
        for one in kept.root.glob("catalogue.sqlite*"):
            one.unlink()
        if how == "garbage":
            (kept.root / "catalogue.sqlite").write_bytes(b"\x13" * 5000)

    @deed(place=places, level=st.sampled_from(levels))
    def look(self, place: str, level: str) -> None:
        """What is not damaged is found so, at every level; and no head of the journal is lost."""
        kept = self.at(place)
        self.done("audit", "-C", kept.root, "--level", level)
        result = call("status", "-C", kept.root)
        assert result.code in {0, 24}, result.said
        for head in kept.heads:
            self.done("head", "-C", kept.root, "--check", head)

    @rule(step=st.one_of(DEEDS), trouble=troubles)
    def live(self, step: dict, trouble: Trouble | None) -> None:
        self.trouble = trouble
        CALLS[step["do"]] += 1
        getattr(self, step["do"])(**{name: step[name] for name in step if name != "do"})

    # ---- what must always hold

    @invariant()
    def everything_comes_out(self) -> None:
        touched, self.touched = self.touched, set()
        for kept in (self.kept[name] for name in sorted(touched) if self.kept[name].there):
            assert kept.titles() == set(kept.live)
            for title, files in kept.live.items():
                folder = self.restored(kept, title)
                assert files_below(folder) == files
                shutil.rmtree(folder)

    def restored(self, kept: Kept, title: str) -> Path:
        folder = self.new_folder()
        self.done("restore", "-C", kept.root, title, folder)
        return folder


def test_whatever_happens_everything_comes_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    phases = [Phase.explicit, Phase.generate]
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=EXAMPLES <= USUAL,
            database=None,
            phases=phases if EXAMPLES <= USUAL else [*phases, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    if EXAMPLES > USUAL:
        for name, count in sorted(CALLS.items()):
            print(f"{count:6} {name}")
