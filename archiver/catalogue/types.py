"""Column types that keep rows small: digests as bytes, shapes as short text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import LargeBinary, Text, TypeDecorator

if TYPE_CHECKING:
    from sqlalchemy import Dialect


class HexDigest(TypeDecorator[str]):
    """Lowercase hex outside, bytes inside (half the room); ``""`` is NULL."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's signature
        """The bytes of ``value``; raises ValueError when it is no digest of this length."""
        if not value:
            return None
        data = bytes.fromhex(value)
        if len(data) != self.length or data.hex() != value:
            raise ValueError(
                f"{value[:80]!r} is not a digest of {self.length} bytes in lowercase hex"
            )
        return data

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        """The hex digits of ``value``, ``""`` for NULL."""
        return value.hex() if value else ""


class Shape(TypeDecorator[tuple[int, ...]]):
    """A tensor's shape as ``"4096,11008"``; a scalar's is ``""``."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        """The shape as text."""
        return ",".join(map(str, value or ()))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[int, ...]:  # noqa: ARG002 - SQLAlchemy's signature
        """The shape as numbers."""
        return tuple(map(int, value.split(","))) if value else ()
