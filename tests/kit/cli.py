"""The command line: run in this process, and what it printed."""

from __future__ import annotations

import json
from typing import NamedTuple

from archiver.cli import main


def invoke(*words: object) -> int:
    """Run a command in this process; return its exit code."""
    return main.invoke([str(word) for word in words])


class Result(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict]:
        """The JSON lines of stdout."""
        # Not splitlines: text of upstream's may hold what Unicode calls the end of a line.
        return [json.loads(line) for line in self.out.split("\n") if line]

    def kinds(self, kind: str) -> list[dict]:
        """The records of a kind."""
        return [record for record in self.records if record["kind"] == kind]

    def only(self, kind: str) -> dict:
        """The one record of a kind."""
        (record,) = self.kinds(kind)
        return record

    @property
    def findings(self) -> list[dict]:
        return self.kinds("finding")

    @property
    def damage(self) -> list[dict]:
        """The findings that are no remarks."""
        return [finding for finding in self.findings if not finding["remark"]]

    @property
    def codes(self) -> set[str]:
        """The codes of what is damaged."""
        return {finding["code"] for finding in self.damage}

    @property
    def remarks(self) -> set[str]:
        """The codes of the remarks."""
        return {finding["code"] for finding in self.findings if finding["remark"]}

    @property
    def finding_codes(self) -> set[str]:
        """The codes of all findings."""
        return {finding["code"] for finding in self.findings}

    @property
    def hit(self) -> set[str]:
        """The repositories whose snapshots an audit says are hit."""
        return {title.partition("@")[0] for title in self.only("audit")["hit"]}


def checked(code: int, out: str, err: str) -> Result:
    """A run's result, once it is sure that errors came as sentences."""
    for trace in ("Traceback", "did not expect", "sqlite3.", "sqlalchemy"):
        assert trace not in err + out, err + out
    if code not in {0, 2} and not out.startswith("{"):
        told = ("archiver: ", "damaged:", "without a seal:")
        assert any(each in err for each in told) or "could not be" in out, err + out
    return Result(code, out, err)
