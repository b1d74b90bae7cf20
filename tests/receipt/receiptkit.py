"""Two archives with a gap between them, and receipts that are written, changed and forged."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from kit.cli import invoke
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.events import ReceiptAccepted
from archiver.archive.records import canonical
from archiver.archive.signing.keys import SecretKey, read_secret_key
from archiver.digest import blake3_hex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kit.cli import Result


def home_archive(folder: Path) -> Path:
    """An archive of two small repositories, each in a pack of its own."""
    root = folder / "home"
    assert invoke("init", "-q", "-C", root) == 0
    for seed, name in enumerate(("one", "two"), 1):
        take_in(root, folder / name, f"org/{name}", seed)
    assert invoke("audit", "-q", "-C", root) == 0
    return root


def take_in(root: Path, model: Path, name: str, seed: int) -> None:
    model.mkdir(exist_ok=True)
    (model / "weights.bin").write_bytes(noise(seed, 200_000))
    (model / "config.json").write_text(f'{{"seed": {seed}}}')
    words = ["--as", name, "--min-free", "0", "--effort", "fast"]
    assert invoke("import", "-q", "-C", root, model, *words) == 0


def signed_anew(path: Path, key: SecretKey) -> None:
    """Let somebody sign a file as it is."""
    path.with_name(f"{path.name}.minisig").write_bytes(key.signature(path.read_bytes(), "x"))


def rewritten(path: Path, **keys: Any) -> None:
    """Let somebody who knows the format write a receipt that says something else."""
    document = json.loads(path.read_bytes()) | keys | {"check": ""}
    document["check"] = blake3_hex(canonical(document))
    path.write_bytes(canonical(document) + b"\n")


class Sides:
    """Home, the far side, and what is carried between them."""

    def __init__(self, run: Callable[..., Result], folder: Path, disk: Path, sent: Path) -> None:
        self._run = run
        self.folder = folder
        self.home = shutil.copytree(sent, folder / "home")
        self.far = disk / "weights"
        self._bundles = 0
        self._receipts = 0

    def key(self, name: str) -> SecretKey:
        """A pair of keys; the secret one, opened."""
        assert self._run("keys", "new", self.folder / name, "--no-password").code == 0
        return read_secret_key(self.folder / f"{name}.key").unlock()

    def at_home(self, *words: object, code: int = 0) -> Result:
        done = self._run("-q", "--json", "-C", self.home, *words)
        assert done.code == code, done
        return done

    def there(self, *words: object, code: int = 0) -> Result:
        done = self._run("-q", "--json", "-C", self.far, *words)
        assert done.code == code, done
        return done

    def carry(self, *repositories: str, export: tuple = (), words: tuple = ()) -> tuple:
        """Carry repositories over the gap; return what export and import told."""
        self._bundles += 1
        media = self.folder / f"media{self._bundles}"
        to = ("--to", media, "--volume-size", "40MiB")
        sent = self.at_home("bundle", "export", *repositories, *to, *export)
        came = self.there("bundle", "import", *words, "--min-free", "0", media)
        return sent.only("bundle-export"), came

    def receipt(self, *words: object, key: str = "far") -> Path:
        """A receipt that the far side writes, signed unless ``key`` is empty."""
        self._receipts += 1
        path = self.folder / f"receipt{self._receipts}.json"
        sign = ("--sign", self.folder / f"{key}.key") if key else ()
        self.there("receipt", "write", "-o", path, *sign, *words)
        return path

    def accept(self, path: Path, *words: object, code: int = 0) -> Result:
        return self.at_home("receipt", "accept", path, *words, code=code)

    def place(self, code: int = 24) -> dict:
        """What home's status says of the one place that is not home."""
        places = self.at_home("status", "--copies", code=code).kinds("place")
        (place,) = [each for each in places if each["standing"] != "here"]
        return place

    def copies(self, looks: dict | None = None) -> dict[str, int]:
        """Repository -> in how many places that count home says that it lies; ``{}``: without a look."""
        from archiver.archive.copies import judge_copies, own_history
        from archiver.text import utc_now

        archive = Archive.open(self.home)
        snapshots = list(archive.snapshots())
        history = own_history(archive, utc_now())
        state = judge_copies(archive, history, snapshots, archive.policy(), looks=looks)
        return {each.seal.repository: state.count(each.id) for each in snapshots}

    def accepted(self) -> int:
        """How many receipts home's journal has."""
        events = Archive.open(self.home).events()
        return sum(isinstance(event.detail, ReceiptAccepted) for _, event in events)
