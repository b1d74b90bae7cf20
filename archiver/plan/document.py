"""What a plan says, as records: what to mirror from where, when, within what, and what a night does."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from archiver.names import HUGGING_FACE
from archiver.plan.window import Window

SmokeWish = Literal["", "none", "structure", "tokenizer", "load", "forward", "generate", "golden"]
"""To which level a model is to be run; ``""``: the plan does not say, ``none``: not at all."""
AuditDepth = Literal["structure", "stored", "content", "files"]
"""How deep a night's audit goes, as ``archive.policy.Level``."""
SecretKind = Literal["file", "credential", "env"]
"""Where a secret lies: a file, a credential of the system's service manager, an environment variable."""
PATTERN_MARKS: Final = frozenset("*?[")
"""What makes a name a pattern."""
ALL_BRANCHES: Final = "branches"
ALL_TAGS: Final = "tags"
ALL_REVISIONS: Final = "all"
"""Words among ``revisions`` that stand for every branch, every tag, or both."""
REVISION_WORDS: Final = (ALL_BRANCHES, ALL_TAGS, ALL_REVISIONS)


class PlannedRepository(msgspec.Struct, frozen=True):
    """One entry of a plan, as it is written; no patterns of files are all files.

    It names a repository, or stands for all that fit a pattern, that an author has, or that a collection
    lists. ``partial`` says that patterns which take no weights, or not all shards, are meant so.

    Attributes:
        name: ``[hub:][datasets/]Org/Name``, where ``Name`` may be a pattern; ``""`` of the other two.
        revision: A branch, a tag or a commit; None for the main branch.
        include: Patterns of the paths that are wanted.
        exclude: Patterns of the paths that are not.
        partial: See above.
        acknowledge: Facts that the owner knows of: ``gone``, ``refused``.
        revisions: In place of ``revision``: names, patterns of names, `REVISION_WORDS`.
        author: ``[hub:][datasets/]Org``; ``""`` of the other two.
        collection: ``[hub:]Owner/title``; ``""`` of the other two.
        priority: Higher comes first.
        effort: ``fast`` or ``normal``; ``""``: as the run has it.
        smoke: To which level a night runs the model.
        gone: The day since which the owner knows that upstream has it no more; ``""``: not so.
        sources: Where to fetch from, in this order; empty: as the plan has it.
        of: The title of the entry that this one was made of, once upstream has said what that stands for;
            ``""`` if it is as it was written.
    """

    name: str = ""
    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    partial: bool = False
    acknowledge: tuple[str, ...] = ()
    revisions: tuple[str, ...] = ()
    author: str = ""
    collection: str = ""
    priority: int = 0
    effort: Literal["", "fast", "normal"] = ""
    smoke: SmokeWish = ""
    gone: str = ""
    sources: tuple[str, ...] = ()
    of: str = ""

    @property
    def selector(self) -> str:
        """What it stands for, without revisions: ``Org/Name``, ``Org/Name-*``, ``Org/*``."""
        if self.author:
            return f"{self.author}/*"
        return f"collection {self.collection}" if self.collection else self.name

    @property
    def title(self) -> str:
        """The selector, with ``@`` and its revisions if it names any; for messages."""
        names = self.revisions or ((self.revision,) if self.revision else ())
        return f"{self.selector}@{','.join(names)}" if names else self.selector

    @property
    def hub(self) -> str:
        """The hub that lists what it stands for."""
        before, colon, _ = (self.name or self.author or self.collection).partition(":")
        return before.lower() if colon else HUGGING_FACE

    @property
    def is_open(self) -> bool:
        """Whether only upstream can say which repositories it stands for."""
        return not self.name or bool(PATTERN_MARKS.intersection(self.name))

    @property
    def follows(self) -> bool:
        """Whether only upstream can say which revisions it stands for."""
        return any(map(is_revision_pattern, self.revisions))


def is_revision_pattern(name: str) -> bool:
    """Return whether an element of ``revisions`` stands for what upstream has, and is no name itself."""
    return name in REVISION_WORDS or bool(PATTERN_MARKS.intersection(name))


class Budget(msgspec.Struct, frozen=True):
    """What one run may take: plain bytes that are fetched, and seconds; 0: as much as it needs."""

    bytes: int = 0
    seconds: int = 0


class NightAudit(msgspec.Struct, frozen=True):
    """How much a night proves of what was proven longest ago, and how deep.

    ``share`` is a part of the whole, ``bytes`` and ``seconds`` limits; 0: not given.
    """

    share: float = 0.0
    seconds: int = 0
    bytes: int = 0
    level: AuditDepth = "stored"


class SecretName(msgspec.Struct, frozen=True):
    """Where a secret lies, such as a URL that holds a key; a plan never holds the secret itself."""

    kind: SecretKind
    name: str


class Night(msgspec.Struct, frozen=True):
    """What a night does besides mirroring; what is empty, None or false is not done.

    Attributes:
        audit: How much is proven.
        copies: Folders of archives that are to have all of this one, where they are there.
        parity: Whether parity is made as the policy wants it.
        sign: The file of the secret key that signs what is not signed.
        report: Whether a report is written into the archive.
        prometheus: The file that metrics are written to.
        ping: Where the URLs lie that are told of beginning and end.
        notify: Where the URLs lie that are told of what is new.
        before: Commands before everything, each as its words; no shell reads them.
        after: Commands after everything.
    """

    audit: NightAudit | None = None
    copies: tuple[str, ...] = ()
    parity: bool = False
    sign: str = ""
    report: bool = False
    prometheus: str = ""
    ping: tuple[SecretName, ...] = ()
    notify: tuple[SecretName, ...] = ()
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """What to mirror, and how.

    Attributes:
        name: What it calls itself.
        repositories: Its entries, as they are written.
        collection: The hub's list that it follows, or ``""``.
        max_age: Upstream should have answered for each within so many seconds; 0: it does not say.
        window: When it may run; None: at any time.
        budget: What a run may take.
        max_rate: At most so many bytes per second; 0: it does not say.
        min_free: How many bytes must stay free; None: it does not say.
        sources: Where to fetch from, in this order; empty: from each repository's own hub.
        night: What else a night does.
        file: The absolute path of its file; ``""`` if it came with archiver.
        is_own: Whether that file is the user's or root's, and nobody else may write it: only then are its
            commands run.
    """

    name: str
    repositories: tuple[PlannedRepository, ...]
    collection: str = ""
    max_age: int = 0
    window: Window | None = None
    budget: Budget = Budget()
    max_rate: int = 0
    min_free: int | None = None
    sources: tuple[str, ...] = ()
    night: Night = Night()
    file: str = ""
    is_own: bool = False

    @property
    def hubs(self) -> tuple[str, ...]:
        """The hubs that a run asks: those of `sources`, and the own one of each entry, which lists it."""
        hubs = [*self.sources]
        for entry in self.repositories:
            hubs += [entry.hub, *entry.sources]
        return tuple(dict.fromkeys(hubs))

    @property
    def is_open(self) -> bool:
        """Whether only upstream can say what all it stands for."""
        return any(entry.is_open or entry.follows for entry in self.repositories)
