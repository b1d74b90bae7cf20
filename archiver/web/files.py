"""Bytes of a file: the answer to ``/resolve``, whole, in ranges, or only what would be sent."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response

from archiver.errors import ArchiverError, DamageError
from archiver.web import hub_documents as documents
from archiver.web.lookup import find_entry, find_repository, find_revision
from archiver.web.proof import proof_headers
from archiver.web.ranges import Range, etag_matches, multipart, parse_range
from archiver.web.refusals import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from archiver.archive.records import FileEntry
    from archiver.archive.serving.served_file import ServedSnapshot
    from archiver.web.holdings import HeldRepository, Revision
    from archiver.web.hub_routes import Target
    from archiver.web.serving import Serving

_log = logging.getLogger(__name__)

_TYPE: Final = "application/octet-stream"


class FoundFile(NamedTuple):
    """A file that is asked for, found and opened."""

    repository: HeldRepository
    revision: Revision
    snapshot: ServedSnapshot
    entry: FileEntry


async def file_answer(serving: Serving, request: Request, target: Target) -> Response:
    """Return the answer to a request for a file; refuse what is not held."""
    file = await serving.threads.call(find_file, serving, target)
    size, etag = file.entry.size, f'"{documents.etag(file.entry)}"'
    headers = await serving.threads.call(file_headers, serving, file)
    _require_match(request, etag)
    if etag_matches(request.headers.get("if-none-match", ""), etag, weak=True):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = _TYPE
    ranges = _ranges(request, size, etag)
    if ranges is None:
        headers["Content-Length"] = str(size)
        status, parts = 200, [_Part(Range(0, size))]
    elif not ranges:
        unsatisfied = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        raise Refusal(416, f"The file has {size:,} bytes; none is asked for.", headers=unsatisfied)
    elif len(ranges) == 1:
        headers["Content-Range"] = ranges[0].header(size)
        headers["Content-Length"] = str(ranges[0].stop - ranges[0].start)
        status, parts = 206, [_Part(ranges[0])]
    else:
        frames = multipart(ranges, size, _TYPE)
        headers["Content-Type"] = frames.content_type
        headers["Content-Length"] = str(frames.length)
        parts = [_Part(*pair) for pair in zip(ranges, frames.heads, strict=True)]
        status, parts = 206, [*parts, _Part(Range(0, 0), frames.end)]
    return FileResponse(serving, file, parts, status, headers)


def find_file(serving: Serving, target: Target) -> FoundFile:
    """Return the file that is asked for, opened; refuse what is not held."""
    repository = find_repository(serving, target)
    revision = find_revision(repository, target)
    snapshot, entry = find_entry(serving, repository, revision, target.path)
    return FoundFile(repository, revision, snapshot, entry)


def file_headers(serving: Serving, file: FoundFile) -> dict[str, str]:
    """Return what is told of a file whatever part of it is asked for."""
    entry = file.entry
    name = entry.path.rpartition("/")[2]
    etag = f'"{documents.etag(entry)}"'
    headers = {
        "ETag": etag,
        "X-Repo-Commit": file.revision.commit,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache, no-transform",
        # Never shown by a browser as a page of this server's.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    if documents.is_lfs(entry):
        headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(entry.size)}
    snapshot = file.snapshot
    return headers | proof_headers(
        serving, file.repository, snapshot.snapshot, snapshot.manifest, entry
    )


def _require_match(request: Request, etag: str) -> None:
    wanted = request.headers.get("if-match")
    if wanted is not None and not etag_matches(wanted, etag, weak=False):
        raise Refusal(412, "The file is another one than If-Match names.", headers={"ETag": etag})


def _ranges(request: Request, size: int, etag: str) -> list[Range] | None:
    """Return the ranges that are asked for, unless the file is another one than If-Range names.

    Only GET has ranges (RFC 9110, 14.2).
    """
    header = request.headers.get("range") if request.method == "GET" else None
    wanted = request.headers.get("if-range")
    if header is None or (wanted is not None and wanted.strip() != etag):
        return None
    return parse_range(header, size)


class _Part(NamedTuple):
    """A stretch of the file, and what is sent before it."""

    range: Range
    head: bytes = b""


class FileResponse(Response):
    """A body that is decoded as the client takes it: the next piece begins when the last one is gone."""

    def __init__(
        self,
        serving: Serving,
        file: FoundFile,
        parts: list[_Part],
        status: int,
        headers: dict[str, str],
    ) -> None:
        self._threads = serving.threads
        self._file = file
        self._parts = parts
        self.status_code = status
        self.background = None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; end the connection before the end if the bytes cannot be had."""
        if scope["method"] == "HEAD":
            await self._start(send)
            await send({"type": "http.response.body", "body": b""})
            return
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await self._send(send, gone)
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _start(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )

    async def _send(self, send: Send, gone: asyncio.Future[None]) -> None:
        file = self._file.snapshot.file(self._file.entry.path)
        started = False
        for part in self._parts:
            pieces = file.read(*part.range)
            try:
                piece = await self._threads.next_piece(pieces)
                if not started:
                    # Only now: what cannot be read from its first byte on has a better answer.
                    await self._start(send)
                    started = True
                if part.head:
                    await send(_body(part.head))
                while piece is not None and not gone.done():
                    await send(_body(piece))
                    piece = await self._threads.next_piece(pieces)
            except ArchiverError as error:
                if not started:
                    raise
                self._break_off(error)
                return
            finally:
                self._threads.leave(pieces)
            if gone.done():
                return
        await send({"type": "http.response.body", "body": b""})

    def _break_off(self, error: ArchiverError) -> None:
        """Say why the answer ends early; the server then closes the connection."""
        kind = "damage" if isinstance(error, DamageError) else "no answer"
        _log.info("%s, connection broken off: %s", kind, error.message)


def _body(data: Any) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def _disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
