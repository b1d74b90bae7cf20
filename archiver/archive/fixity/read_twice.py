"""Reading again what looks damaged, before it is called damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from archiver.errors import (
    ArchiverError,
    DeniedError,
    InvalidDocumentError,
    UnknownFormatError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.storage.store import Store

Value = TypeVar("Value")


class Twice(NamedTuple):
    """What two readings gave; ``problem`` is empty if the last one succeeded."""

    problem: str
    unstable: str
    """Why the two readings differ; empty if they agree, or if the first was good."""
    denied: bool = False
    """The system does not let this user read it: nothing is known about its bytes."""
    invalid: bool = False
    """The bytes are what they should be, and say what the format forbids: no copy is better."""


def read_twice(store: Store, name: str, read: Callable[[], Value]) -> tuple[Value | None, Twice]:
    """The value of ``read``, which reads the file ``name``; a failure is tried once more."""
    first = ""
    for attempt in (1, 2):
        try:
            value = read()
        except UnknownFormatError:
            raise  # not damage: a newer version can read it
        except DeniedError as error:
            return None, Twice(error.message, "", denied=True)
        except InvalidDocumentError as error:
            return None, Twice(error.message, "", invalid=True)
        except (ArchiverError, FileNotFoundError) as error:
            problem = error.message if isinstance(error, ArchiverError) else f"{name} is missing."
        else:
            return value, Twice("", first and f"{name} came out whole only when read again.")
        if attempt == 1:
            first = problem
            forget(store, name)
    differs = f"{name} was damaged in another way when read again." if problem != first else ""
    return None, Twice(problem, differs)


def forget(store: Store, name: str) -> None:
    """Let the next reading of a file come from the medium."""
    try:
        reader = store.open(name)
    except (ArchiverError, FileNotFoundError):
        return
    reader.fresh()
    reader.close()
