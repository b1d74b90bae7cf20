"""Keys in files: read what a person names, and write a new pair."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive.signing.minisign import (
    FILE_MAX,
    UNTRUSTED,
    PublicKey,
    Signature,
    parse_public_key,
    parse_signature,
)
from archiver.archive.signing.secret_key import LockedKey, SecretKey, parse_secret_key
from archiver.errors import DamageError, UsageError, explain_system_error
from archiver.storage.new_file import require_absent, write_new
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable


class KeyFiles(NamedTuple):
    """Where a new pair of keys lies."""

    secret: Path
    public: Path


def read_small(path: Path, what: str) -> bytes:
    """A small file that the user named; UsageError if there is none."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_MAX + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"There is no {what} at {path}.") from None
    except OSError as error:
        raise explain_system_error(error, f"the {what} was read") from error


def read_secret_key(path: Path) -> LockedKey:
    """The secret key in a file; UsageError if it holds none."""
    data = read_small(path, "secret key")
    try:
        return parse_secret_key(data)
    except UsageError as error:
        raise UsageError(
            f"{path}: {error.message}", hint="'archiver keys new PATH' makes one."
        ) from None


def read_signature(path: Path) -> Signature:
    """The signature in a file; UsageError if there is no file, DamageError if it holds none."""
    try:
        return parse_signature(read_small(path, "signature"))
    except DamageError as error:
        raise DamageError(f"{path} is not a signature: {error.message}.") from None


def public_key(text: str) -> PublicKey:
    """The public key that ``text`` is, or that the file of that name holds; UsageError otherwise."""
    path = Path(text)
    if not path.is_file():
        return parse_public_key(text)
    data = read_small(path, "public key").decode(errors="replace")
    try:
        return parse_public_key(data)
    except UsageError:
        raise UsageError(f"{path} holds no public key.") from None


def public_keys(texts: Iterable[str]) -> tuple[PublicKey, ...]:
    """Several public keys, each once; UsageError if one is none."""
    return tuple(dict.fromkeys(map(public_key, texts)))


def identify(path: Path) -> PublicKey | LockedKey | Signature:
    """What a file holds: a public key, a secret key or a signature; UsageError if none of them."""
    data = read_small(path, "key")
    for parse in (parse_secret_key, parse_signature, _parse_public_key):
        try:
            return parse(data)
        except (UsageError, DamageError):
            continue
    raise UsageError(
        f"{path} is no key and no signature.", hint="Name a .pub, a .key or a .minisig file."
    )


def _parse_public_key(data: bytes) -> PublicKey:
    return parse_public_key(data.decode(errors="replace"))


def new_pair(path: Path) -> KeyFiles:
    """Where ``write_pair`` writes; UsageError if one of the two is there already."""
    files = KeyFiles(Path(f"{path}.key"), Path(f"{path}.pub"))
    for one in files:
        require_absent(one)
    return files


def write_pair(path: Path, key: SecretKey, password: str, comment: str) -> KeyFiles:
    """Write ``path``.key and ``path``.pub; UsageError if one of them is there already."""
    if comment and printable(comment, 1000) != comment:
        raise UsageError(
            "The comment must be one line of at most 1,000 characters that can be printed."
        )
    files = new_pair(path)
    write_new(files.public, _commented(key.public.file(), comment), 0o644)
    try:
        write_new(files.secret, _commented(key.file(password), comment), 0o600)
    except BaseException:
        files.public.unlink(missing_ok=True)
        raise
    return files


def _commented(data: bytes, comment: str) -> bytes:
    return UNTRUSTED + comment.encode() + b"\n" + data.split(b"\n", 1)[1] if comment else data
