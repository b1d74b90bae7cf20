"""A manifest in a file is believed only if a trusted key signed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive.signing.key_file import read_signature
from archiver.errors import DamageError

if TYPE_CHECKING:
    from archiver.archive.signing.minisign import PublicKey

SUFFIX = ".minisig"


class UntrustedError(DamageError):
    """No trusted key signed these bytes."""


class Trust(NamedTuple):
    """Which keys are trusted, and where the signature is; None: beside the signed file."""

    keys: tuple[PublicKey, ...]
    signature: Path | None = None

    def candidates(self, signed: Path) -> list[Path]:
        """Where a signature of the file ``signed`` may lie, the usual place first."""
        if self.signature is not None:
            return [self.signature]
        return [beside(signed), *(beside(signed, key.id) for key in self.keys)]

    def require(self, signed: Path, data: bytes) -> str:
        """The id of the trusted key that signed ``data``, which is what the file ``signed`` holds.

        UntrustedError says why there is none.
        """
        there = [path for path in self.candidates(signed) if path.is_file()]
        if not there:
            wanted = self.candidates(signed)[0]
            raise UntrustedError(f"There is no signature of {signed}: {wanted} is not there.")
        faults: list[str] = []
        for path in there:
            for key in self.keys:
                fault = _fault(path, key, data)
                if not fault:
                    return key.id
                faults.append(fault)
        raise UntrustedError(f"No trusted key signed {signed}: {'; '.join(dict.fromkeys(faults))}.")


def beside(signed: Path, key: str = "") -> Path:
    """Where the signature of a file lies, or the one by a further key."""
    return Path(f"{signed}.{key}{SUFFIX}" if key else f"{signed}{SUFFIX}")


def _fault(path: Path, key: PublicKey, data: bytes) -> str:
    try:
        read_signature(path).verify(key, data)
    except DamageError as error:
        return error.message.rstrip(".")
    return ""
