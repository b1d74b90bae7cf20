"""What is wrong with the documents of an archive, each with what to do about it, as it comes to light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.advice import Actions, Advice
from archiver.archive.finding import Code, Finding

if TYPE_CHECKING:
    from archiver.archive.fixity.read_twice import Twice
    from archiver.storage.store import Store


class Findings:
    """What was found so far, in ``all``."""

    def __init__(self, store: Store) -> None:
        self.advice = Advice(store.describe())
        self.all: list[Finding] = []

    def add(
        self,
        code: Code,
        message: str,
        actions: Actions = (),
        *,
        path: str = "",
        object: str = "",  # noqa: A002 - as the field is called
        pack: str = "",
        snapshots: tuple[str, ...] = (),
    ) -> None:
        """One more."""
        self.all.append(
            Finding(
                code,
                message,
                path,
                object=object,
                pack=pack,
                snapshots=snapshots,
                actions=actions,
            )
        )

    def unstable(self, reason: str, name: str) -> None:
        """A document whose two readings differ; nothing if there is no reason to say so."""
        if reason:
            self.add("read-unstable", reason, self.advice.unstable(), path=name)

    def bad(self, code: Code, state: Twice, name: str, snapshots: tuple[str, ...] = ()) -> None:
        """A document that did not come out, or could not be read at all."""
        actions = self.advice.copy_back(name, code)
        if state.denied:
            code, actions = "file-unreadable", self.advice.make_readable()
        self.add(code, state.problem, actions, path=name, snapshots=snapshots)
