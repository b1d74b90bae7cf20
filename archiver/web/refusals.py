"""Answers that refuse: the status, the Hub's own code for it, and a sentence that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from starlette.responses import JSONResponse

from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

Code = Literal["RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo", "Damaged", ""]
"""What the Hub's clients tell errors apart by, in ``X-Error-Code``; ``Damaged`` is none of the Hub's."""
_MESSAGE_MAX: Final = 600
"""Signs of a message: it quotes what was asked for, and goes into a header."""


class Refusal(Exception):  # noqa: N818 - an answer, raised where it is known
    """A request is answered with this instead of with what it asked for."""

    def __init__(
        self,
        status: int,
        message: str,
        code: Code = "",
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = printable(message, _MESSAGE_MAX)
        self.code = code
        self.headers = dict(headers or {})
        self.details = dict(details or {})

    def response(self) -> Response:
        """Return it as the Hub says it: the message in a header and as JSON."""
        # What a header cannot hold is escaped there; the JSON has it as it is.
        message = bytes(self.message, "ascii", "backslashreplace").decode()
        headers = {"X-Error-Message": message, **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        code = {"code": self.code} if self.details else {}
        return JSONResponse({"error": self.message, **code, **self.details}, self.status, headers)


def not_found(message: str = "There is nothing at this address.") -> Refusal:
    """Return that an address means nothing here."""
    return Refusal(404, message)
