"""The small files of a repository that the libraries read from a folder: configurations, tokenizer.

Their JSON is bounded before a library parses it, and made to name nothing elsewhere.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.errors import SkippedError, explain_system_error
from archiver.names import check_paths
from archiver.smoke.report import FailedError
from archiver.text import human_bytes, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from archiver.archive.findings import Code
    from archiver.smoke.checkpoint.files import Checkpoint


_MOST_DEPTH: Final = 64
"""The libraries walk it by recursion; real ones are some ten levels deep."""
_MOST_VALUES: Final = 6_000_000
"""A tokenizer of 262,144 tokens and 514,906 merges has 2.3 million; each takes some 80 bytes,"""
_MOST_SETTINGS: Final = 500_000
"""and a configuration, which lists a few thousand tokens at most, far fewer."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_CONFIGS: Final = ("config.json", "special_tokens_map.json")
_READ: Final = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
)
"""Those of them that the libraries read, and want an object in."""
_CODE: Final = ("auto_map", "custom_pipelines")
_NO_CODE: Final = (
    "archiver runs no code of a repository; 'archiver audit' says whether it is whole."
)


class SideJsonError(ValueError):
    """The file cannot be used; the message says why, as one sentence."""


def checked_json(path: str, data: bytes, there: Collection[str]) -> bytes:
    """Return ``data`` as it may be written for a library to read.

    A configuration loses the entries that name files: where these lie, the folder says, and a name
    such as ``/dev/zero`` is not for a repository to choose.

    Args:
        path: The file's path in the repository.
        data: Its content.
        there: The paths of all files that the folder will hold.

    Raises:
        SideJsonError: It is nested too deep, or has too many values; a configuration: it is no JSON
            object.
        SkippedError: It is a configuration that asks to run code of the repository.
    """
    is_config = path.endswith(_CONFIGS)
    _check_extent(data, _MOST_SETTINGS if is_config else _MOST_VALUES)
    if not is_config:
        return data
    content = _parsed(data)
    if isinstance(content, list) and path not in _READ:
        return data  # such as the training data that all-MiniLM-L6-v2 lists in data_config.json
    if not isinstance(content, dict):
        raise SideJsonError("It is no JSON object.")
    _refuse_code(path, content)
    harmless = {key: value for key, value in content.items() if not _names_files(key, value, there)}
    return data if len(harmless) == len(content) else json.dumps(harmless).encode()


def _check_extent(data: bytes, most: int) -> None:
    """Depth and number of values, from brackets and commas alone: nothing is built."""
    bare = _STRING.sub(b"", data)
    brackets = bare.translate(None, _NOT_BRACKETS)
    if len(brackets) + bare.count(b",") > most:
        raise SideJsonError(f"It has more than {most:,} values.")
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > _MOST_DEPTH:
            raise SideJsonError(f"It is nested more than {_MOST_DEPTH} levels deep.")


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise SideJsonError(f"It is no JSON: {printable(str(error))}.") from None


def _refuse_code(path: str, content: dict[str, Any]) -> None:
    for part in _objects(content):
        for key in _CODE:
            code = part.get(key)
            if code and isinstance(code, dict | list):
                names = printable(", ".join(map(str, code)))
                message = f"{printable(path)} asks to run code of the repository ({key}: {names})."
                raise SkippedError(message, hint=_NO_CODE)


def _objects(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield it and every object in it, the outermost first."""
    waiting: list[Any] = [content]
    for value in waiting:  # which grows meanwhile
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _names_files(key: str, value: Any, there: Collection[str]) -> bool:
    """Return whether the libraries would open what an entry names, wherever that is."""
    if key.endswith("_files"):
        listed = value if isinstance(value, list) else [None]
        return not all(isinstance(path, str) and path in there for path in listed)
    return key == "init_inputs" or (key.endswith("_file") and value is not None)


# ---- the folder


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
    """Write them into a new folder below ``scratch`` and return it. Never code, pickles or weights.

    Configurations are written without what names files elsewhere.

    Raises:
        SkippedError: A configuration asks to run code of the repository.
        FailedError: A file is too large, or JSON that cannot be used (``model-config``,
            ``model-tokenizer``).
        HostileNameError: A path must not be written.
        DamageError: A file cannot be read as it should be.
    """
    sizes = {path: size for path, size in checkpoint.files.items() if _is_side_file(path)}
    check_paths(sizes)
    findings = [*_too_much(sizes)]
    contents = {} if findings else _contents(checkpoint, sizes, findings)
    if findings:
        raise FailedError(*findings)
    return _written(contents, scratch)


def _is_side_file(path: str) -> bool:
    name = path.removeprefix(_TEMPLATES)
    if "/" in name or path.endswith(_LEFT_OUT) or _INDEX.search(path):
        return False
    if name != path:
        return path.endswith(".jinja")
    return path.endswith(_SUFFIXES) or path in _NAMES


def _too_much(sizes: dict[str, int]) -> Iterator[Finding]:
    for path, size in sizes.items():
        if size > _MOST_BYTES:
            message = f"It has {human_bytes(size)}, more than such a file may have"
            yield _finding(path, f"{message} ({human_bytes(_MOST_BYTES)}).", "model-config")
    if len(sizes) > _MOST_FILES or sum(sizes.values()) > _MOST_TOGETHER:
        message = f"There are {len(sizes):,} small files of {human_bytes(sum(sizes.values()))}"
        limit = f"{_MOST_FILES:,} of {human_bytes(_MOST_TOGETHER)} may be read."
        yield _finding("", f"{message} together; {limit}", "model-config")


def _contents(
    checkpoint: Checkpoint, paths: dict[str, int], findings: list[Finding]
) -> dict[str, bytes]:
    contents = {}
    for path in paths:
        data = checkpoint.read(path, _MOST_BYTES)
        try:
            contents[path] = checked_json(path, data, paths) if path.endswith(".json") else data
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
