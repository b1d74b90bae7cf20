"""The Hub's API over what is held: read-only, each answer made in one of the threads."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from archiver.errors import ArchiverError, DamageError
from archiver.web import hub_documents as documents
from archiver.web.files import file_answer
from archiver.web.lookup import find_repository, find_revision, missing_file
from archiver.web.proof import proof_document
from archiver.web.refusals import Refusal, not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from archiver.archive.records import FileFacts
    from archiver.web.holdings import HeldRepository, Revision
    from archiver.web.hub_routes import Target
    from archiver.web.serving import Serving

_log = logging.getLogger(__name__)

BODY_MAX: Final = 1 << 20
"""Bytes of a request's body: a list of paths."""
FIELDS_MAX: Final = 10_000
"""Fields of a query, or of a form."""
PAGE: Final = 1000
"""Entries of a page of a list,"""
PAGE_EXPANDED: Final = 50
"""and with ``expand``, as the Hub has it."""
_DIGITS_MAX: Final = 9
_REPAIR: Final = "archiver repair"
_UNANSWERED: Final = (
    "The archive cannot be read now. Why is in the log of this server (archiver serve -v)."
)
_FORM: Final = "application/x-www-form-urlencoded"


class Question(NamedTuple):
    """A request, read: what it names, and its query and form as lists of values."""

    target: Target
    base: str
    path: str
    query: Mapping[str, list[str]]
    form: Mapping[str, list[str]]

    def value(self, name: str) -> str:
        """Return the last value of a term of the query; ``""`` if it has none."""
        return self.query.get(name, [""])[-1]

    def flag(self, name: str) -> bool:
        """Return whether a term of the query is set."""
        return self.value(name).lower() in {"true", "1"}

    def number(self, name: str, default: int) -> int:
        """Return a number of the query; refuse what is none."""
        text = self.value(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
            raise Refusal(400, f"{name} is no number: {text[:40]}")
        return int(text)


class Answer(NamedTuple):
    """JSON, and headers beside it."""

    document: Any
    headers: Mapping[str, str] = {}


class HubApi:
    """The application behind all addresses of the Hub."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        try:
            response = await self._response(request, scope["target"])
            # What cannot be read from its first byte on raises here, and has no answer begun.
            await response(scope, receive, send)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
        except DamageError as error:
            await damaged(error).response()(scope, receive, send)
        except ArchiverError as error:
            _log.info("no answer: %s", error.message)
            # Its message may name a path, which is none of a client's business.
            unanswered = Refusal(503, _UNANSWERED, headers={"Retry-After": "60"})
            await unanswered.response()(scope, receive, send)

    async def _response(self, request: Request, target: Target) -> Response:
        posted = request.method == "POST" and target.route == "paths-info"
        if request.method not in {"GET", "HEAD"} and not posted:
            raise Refusal(405, "This server only reads.", headers={"Allow": "GET, HEAD"})
        if target.route == "resolve":
            return await file_answer(self._serving, request, target)
        form = await _form(request) if posted else {}
        question = Question(
            target,
            f"{request.url.scheme}://{request.headers.get('host', '')}",
            request.scope["raw_path"].partition(b"?")[0].decode("ascii", "replace"),
            _fields(request.scope["query_string"]),
            form,
        )
        answer, body = await self._serving.threads.call(self._encoded, question)
        return Response(body, media_type="application/json", headers=answer.headers)

    def _encoded(self, question: Question) -> tuple[Answer, bytes]:
        answer = _ANSWERS[question.target.route](self._serving, question)
        return answer, msgspec.json.encode(answer.document)


def damaged(error: DamageError) -> Refusal:
    """Return the refusal of what cannot be read whole."""
    _log.info("damage: %s %s", error.message, error.hint)
    # The hint has the archive's path, which is none of a client's business.
    message = (
        f"{error.message} Whoever runs this server mends it with '{_REPAIR}', and finds out more with "
        "'archiver audit'."
    )
    known = {"object": error.object, "pack": error.pack, "next": _REPAIR}
    details = {name: value for name, value in known.items() if value}
    return Refusal(503, message, "Damaged", {"Retry-After": "3600"}, details)


def _fields(data: bytes) -> dict[str, list[str]]:
    """Return the fields of a query or a form; refuse more than there may be."""
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise Refusal(400, f"The request has more than {FIELDS_MAX:,} fields.") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


async def _form(request: Request) -> dict[str, list[str]]:
    """Return the form, or the JSON object, in a request's body; refuse one that is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise Refusal(
                413, f"The body has more than {BODY_MAX:,} bytes.", headers={"Connection": "close"}
            )
    if request.headers.get("content-type", _FORM).partition(";")[0].strip().lower() == _FORM:
        return _fields(bytes(body))
    try:
        told = msgspec.json.decode(bytes(body), type=_PathsInfo)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refusal(400, "The body is neither a form nor an object with paths.") from None
    paths = [told.paths] if isinstance(told.paths, str) else told.paths
    return {"paths": list(paths), "expand": [str(told.expand)]}


class _PathsInfo(msgspec.Struct):
    paths: list[str] | str = []
    expand: bool = False


# ---- what is asked for


def _asked(serving: Serving, question: Question) -> tuple[HeldRepository, Revision]:
    repository = find_repository(serving, question.target)
    return repository, find_revision(repository, question.target)


def _info(serving: Serving, question: Question) -> Answer:
    repository, revision = _asked(serving, question)
    card = serving.holdings.card(revision.snapshot)
    info = documents.repository_info(repository, revision, card)
    files = serving.holdings.files(revision)
    blobs = question.flag("blobs")
    info["siblings"] = [documents.sibling(file, blobs=blobs) for file in files]
    return Answer(_expand(info, question), {"X-Repo-Commit": revision.commit})


def _expand(info: documents.Json, question: Question) -> documents.Json:
    """Return only what ``expand`` names, where it is given, and what is always told."""
    wanted = {*question.query.get("expand", []), *question.query.get("expand[]", [])}
    if not wanted:
        return info
    always = {"_id", "id", "modelId"}
    return {key: value for key, value in info.items() if key in wanted | always}


def _tree(serving: Serving, question: Question) -> Answer:
    repository, revision = _asked(serving, question)
    files: Sequence[FileFacts] = serving.holdings.files(revision)
    under = question.target.path.strip("/")
    recursive, expand = question.flag("recursive"), question.flag("expand")
    entries = documents.tree(files, revision.commit, under, recursive=recursive)
    if under and not entries:
        raise missing_file(repository, revision, under)
    page, headers = _page(question, entries, PAGE_EXPANDED if expand else PAGE)
    if expand:
        page = [documents.expanded(entry, revision) for entry in page]
    return Answer(page, {**headers, "X-Repo-Commit": revision.commit})


def _paths_info(serving: Serving, question: Question) -> Answer:
    _, revision = _asked(serving, question)
    paths = dict.fromkeys(path.strip("/") for path in question.form.get("paths", []))
    found = documents.path_entries(serving.holdings.files(revision), revision.commit, paths)
    if question.form.get("expand", [""])[-1].lower() == "true":
        found = [documents.expanded(entry, revision) for entry in found]
    return Answer(found, {"X-Repo-Commit": revision.commit})


def _refs(serving: Serving, question: Question) -> Answer:
    return Answer(documents.refs(find_repository(serving, question.target)))


def _commits(serving: Serving, question: Question) -> Answer:
    repository, revision = _asked(serving, question)
    page, headers = _page(question, documents.commits(repository, revision), PAGE)
    return Answer(page, headers)


def _auth_check(serving: Serving, question: Question) -> Answer:
    find_repository(serving, question.target)
    return Answer({})


def _list(serving: Serving, question: Question) -> Answer:
    """Return the repositories that fit: of an author, with words in their names, with tags."""
    author, words = question.value("author").casefold(), question.value("search").casefold()
    tags = {tag.casefold() for each in question.query.get("filter", []) for tag in each.split(",")}
    full = question.flag("full") or question.flag("cardData")
    repositories = [
        repository
        for repository in serving.holdings.catalog().of_kind(question.target.kind)
        if (not author or repository.author.casefold() == author)
        and all(word in repository.id.casefold() for word in words.split())
    ]
    newest = question.value("sort") in {"lastModified", "createdAt"}
    if newest:
        ascending = question.value("direction") == "1"
        repositories.sort(key=lambda each: each.revisions[each.main].time, reverse=not ascending)
    if tags:
        repositories = [each for each in repositories if tags <= _tags_of(serving, each)]
    page, headers = _page(question, repositories, PAGE)
    infos = []
    for repository in page:
        revision = repository.revisions[repository.main]
        card = _card(serving, revision) if full or tags else None
        info = documents.repository_info(repository, revision, card)
        if full:
            with suppress(DamageError):
                files = serving.holdings.files(revision)
                info["siblings"] = [documents.sibling(file, blobs=False) for file in files]
        infos.append(_expand(info, question))
    return Answer(infos, headers)


def _tags_of(serving: Serving, repository: HeldRepository) -> set[str]:
    revision = repository.revisions[repository.main]
    info = documents.repository_info(repository, revision, _card(serving, revision))
    return {tag.casefold() for tag in info["tags"]}


def _card(serving: Serving, revision: Revision) -> documents.Json:
    """Return what a card declares, nothing where it is lost: a list is still one of the others."""
    try:
        return serving.holdings.card(revision.snapshot)
    except DamageError:
        return {}


def _collections(serving: Serving, question: Question) -> Answer:
    owners = {owner.casefold() for owner in question.query.get("owner", [])}
    items = set(question.query.get("item", []))
    found = [
        each
        for each in documents.collections(serving.holdings.catalog())
        if (not owners or each["owner"].casefold() in owners)
        and (not items or items & {f"{item['type']}s/{item['id']}" for item in each["items"]})
    ]
    page, headers = _page(question, found, PAGE)
    # Positions in a list are the client's to count.
    listed = [{key: each[key] for key in each if key != "position"} for each in page]
    return Answer(listed, headers)


def _collection(serving: Serving, question: Question) -> Answer:
    slug = question.target.path.casefold()
    for each in documents.collections(serving.holdings.catalog()):
        if each["slug"].casefold() == slug:
            return Answer(each)
    raise not_found("This archive has no such collection.")


def _whoami(serving: Serving, question: Question) -> Answer:
    """Return who asks: whoever has the token. Without one there is nobody to tell apart."""
    del question
    if not serving.options.token:
        raise Refusal(401, "This server knows no users: it serves whoever reaches it.")
    return Answer(
        {
            "type": "user",
            "id": "reader",
            "name": "reader",
            "fullname": "reader",
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"role": "read"}},
        }
    )


def _unknown(serving: Serving, question: Question) -> Answer:
    del serving, question
    raise not_found("This address is none of those that an archive answers.")


_ANSWERS: Final[dict[str, Callable[[Serving, Question], Answer]]] = {
    "list": _list,
    "info": _info,
    "tree": _tree,
    "paths-info": _paths_info,
    "refs": _refs,
    "commits": _commits,
    "auth-check": _auth_check,
    "collections": _collections,
    "collection": _collection,
    "whoami": _whoami,
    "proof": lambda serving, question: Answer(proof_document(serving, question.target)),
    "unknown": _unknown,
}


def _page(question: Question, items: Sequence[Any], most: int) -> tuple[list[Any], dict[str, str]]:
    """Return the page that is asked for, and a link to the next one."""
    size = max(1, min(most, question.number("limit", most)))
    start = question.number("cursor", 0)
    page = list(items[start : start + size])
    if start + size >= len(items):
        return page, {}
    terms = [
        (name, value)
        for name, values in question.query.items()
        for value in values
        if name != "cursor"
    ]
    query = urlencode([*terms, ("cursor", str(start + size))], errors="replace")
    return page, {"Link": f'<{question.base}{question.path}?{query}>; rel="next"'}
