"""The small files of a repository that the libraries read from a folder: configurations, tokenizer."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.errors import explain_system_error
from archiver.names import check_paths
from archiver.smoke.checkpoint.side_json import SideJsonError, checked_json
from archiver.smoke.report import FailedError
from archiver.text import human_bytes, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.findings import Code
    from archiver.smoke.checkpoint.protocol import Checkpoint

_SUFFIXES: Final = (".json", ".jinja", ".model", ".spm")
_NAMES: Final = ("merges.txt", "vocab.txt", "bpe.codes", "dict.txt")
_TEMPLATES: Final = "additional_chat_templates/"
# With an adapter's configuration beside them, the libraries would look for another model; the list of
# what sentence-transformers trained on, no library reads.
_LEFT_OUT: Final = ("adapter_config.json", "data_config.json")
_INDEX: Final = re.compile(r"\.index(\.[^.]+)?\.json\Z")
_OF_TOKENIZER: Final = ("token", "vocab", "merges", "special", "added", "chat", _TEMPLATES)
_MOST_FILES: Final = 1000
_MOST_BYTES: Final = 64 << 20
_MOST_TOGETHER: Final = 256 << 20
_HINT: Final = "Compare the file with upstream's."


def write_side_files(checkpoint: Checkpoint, scratch: Path) -> Path:
    """Write them into a new folder below ``scratch``; that folder. Never code, pickles or weights.

    Configurations are written without what names files elsewhere.

    Raises:
        SkippedError: A configuration asks to run code of the repository.
        FailedError: A file is too large, or JSON that cannot be used (``model-config``,
            ``model-tokenizer``).
        HostileNameError: A path must not be written.
        DamageError: A file cannot be read as it should be.
    """
    wanted = {path: size for path, size in checkpoint.files.items() if _is_wanted(path)}
    check_paths(wanted)
    findings = [*_too_much(wanted)]
    contents = {} if findings else _contents(checkpoint, wanted, findings)
    if findings:
        raise FailedError(*findings)
    return _written(contents, scratch)


def _is_wanted(path: str) -> bool:
    name = path.removeprefix(_TEMPLATES)
    if "/" in name or path.endswith(_LEFT_OUT) or _INDEX.search(path):
        return False
    if name != path:
        return path.endswith(".jinja")
    return path.endswith(_SUFFIXES) or path in _NAMES


def _too_much(wanted: dict[str, int]) -> Iterator[Finding]:
    for path, size in wanted.items():
        if size > _MOST_BYTES:
            told = f"It has {human_bytes(size)}, more than such a file may have"
            yield _finding(path, f"{told} ({human_bytes(_MOST_BYTES)}).", "model-config")
    if len(wanted) > _MOST_FILES or sum(wanted.values()) > _MOST_TOGETHER:
        told = f"There are {len(wanted):,} small files of {human_bytes(sum(wanted.values()))}"
        limit = f"{_MOST_FILES:,} of {human_bytes(_MOST_TOGETHER)} may be read."
        yield _finding("", f"{told} together; {limit}", "model-config")


def _contents(
    checkpoint: Checkpoint, wanted: dict[str, int], findings: list[Finding]
) -> dict[str, bytes]:
    contents = {}
    for path in wanted:
        data = checkpoint.read(path, _MOST_BYTES)
        try:
            contents[path] = checked_json(path, data, wanted) if path.endswith(".json") else data
        except SideJsonError as error:
            code: Code = "model-tokenizer" if path.startswith(_OF_TOKENIZER) else "model-config"
            findings.append(_finding(path, str(error), code))
    return contents


def _finding(path: str, message: str, code: Code) -> Finding:
    return Finding(code, message, path=printable(path), hint=_HINT)


def _written(contents: dict[str, bytes], scratch: Path) -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="files-", dir=scratch))
        for path, data in contents.items():
            target = folder / path
            target.parent.mkdir(exist_ok=True)
            with target.open("xb") as file:
                file.write(data)
    except OSError as error:
        error.filename = error.filename or str(scratch)
        raise explain_system_error(error, "the model's small files were written") from error
    return folder
