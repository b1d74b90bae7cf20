"""What is wrong with the documents of an archive, each with what to do about it, as it comes to light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.advice import Advice
from archiver.archive.finding import Code, Finding

if TYPE_CHECKING:
    from archiver.archive.fixity.read_twice import Twice
    from archiver.storage.store import Store


class Findings:
    """What was found so far, in ``all``."""

    def __init__(self, store: Store) -> None:
        self.advice = Advice(store.describe())
        self.all: list[Finding] = []

    def add(self, code: Code, message: str, hint: str = "", **where: str) -> None:
        """One more; ``where`` are texts among the fields of a finding."""
        self.all.append(Finding(code, message, hint=hint, **where))  # type: ignore[arg-type] # all are text

    def unstable(self, reason: str, name: str) -> None:
        """A document whose two readings differ; nothing if there is no reason to say so."""
        if reason:
            self.add("read-unstable", reason, self.advice.unstable(), path=name)

    def bad(self, code: Code, state: Twice, name: str, snapshot: str = "") -> None:
        """A document that did not come out, or could not be read at all."""
        hint = self.advice.copy_back(name, code)
        if state.denied:
            code, hint = "file-unreadable", self.advice.make_readable()
        self.add(code, state.problem, hint, path=name, snapshot=snapshot)
