"""A model card as HTML: Markdown of strangers, of which only what is harmless is shown.

Nothing in it is fetched, run, or styled: pictures become their words, links lead away without telling from
where, and headings take their place below those of the page. What the front matter says is told as facts.
"""

from __future__ import annotations

import re
import threading
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

from archiver.front_matter import parse_card, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT_MAX: Final = 128 << 10
"""Characters of a card that are shown: enough for every one that a person wrote,"""
_TERMS_MAX: Final = 24
"""and so many values of each of its facts."""
_KEPT: Final = 64
_FACTS: Final = (
    ("license_name", "Licence by name"),
    ("license", "Licence"),
    ("base_model", "Base model"),
    ("base_model_relation", "Relation to it"),
    ("pipeline_tag", "Task"),
    ("library_name", "Library"),
    ("language", "Languages"),
    ("datasets", "Datasets"),
    ("metrics", "Metrics"),
    ("tags", "Tags"),
)
_TAGS: Final = frozenset({
    *("a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl", "dt"),
    *("em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark", "ol", "p"),
    *("pre", "q", "s", "samp", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td"),
    *("tfoot", "th", "thead", "tr", "ul", "var"),
})  # fmt: skip
_ATTRIBUTES: Final[dict[str, set[str]]] = {
    "*": set(),  # else titles and languages are kept everywhere
    "a": {"href"},
    "img": {"alt"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}
_DROPPED: Final = {
    "script",
    "style",
    "title",
    "template",
    "noscript",
    "textarea",
    "select",
    "svg",
    "math",
}
"""What goes with all that is in it."""
_LINKS: Final = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_BIDI: Final = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
"""Marks that turn the direction of what follows: text could pass for another."""
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HEADING: Final = re.compile(r"<(/?)h([1-6])>")
_PICTURE: Final = re.compile(r'<img(?: alt="([^"]*)")?>')
_HEAD_CELL: Final = re.compile(r"<th(?=[ >])")
_ALERT: Final = re.compile(
    r"<blockquote>\n<p>\[!(note|tip|important|warning|caution)\]\n?", re.IGNORECASE
)
"""How the hub writes a note in Markdown."""
_SPAN: Final = re.compile(r"[1-9][0-9]{0,2}")
_TOP: Final = 3
"""The level at which a card's headings begin."""


class Fact(NamedTuple):
    """What a card's front matter says under one key."""

    title: str
    values: tuple[str, ...]
    more: int


class ShownCard(NamedTuple):
    """A card: the facts of its front matter, its text as safe HTML, and whether that was cut."""

    facts: tuple[Fact, ...]
    html: Markup
    cut: bool


@lru_cache(_KEPT)
def shown_card(data: bytes) -> ShownCard:
    """Return what is shown of a card; never an error, whatever is in it."""
    fields, body = parse_card(data)
    return ShownCard(tuple(_facts(fields)), rendered(body[:TEXT_MAX]), cut=len(body) > TEXT_MAX)


def _facts(fields: dict[str, Any]) -> Iterator[Fact]:
    for key, title in _FACTS:
        values = list(dict.fromkeys(texts_of(fields.get(key))))
        if values:
            yield Fact(title, tuple(values[:_TERMS_MAX]), max(0, len(values) - _TERMS_MAX))


def rendered(text: str) -> Markup:
    """Return Markdown, with whatever HTML is in it, as HTML that cannot harm."""
    text = _CONTROLS.sub("\ufffd", _BIDI.sub("", text.replace("\r\n", "\n")))
    try:
        with _one_at_a_time:
            unsafe = _markdown().render(text)
    except RecursionError:
        return Markup("<pre>{}</pre>").format(text)
    safe = nh3.clean(
        unsafe,
        tags=set(_TAGS),
        clean_content_tags=_DROPPED,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        link_rel="noopener noreferrer nofollow",
        url_schemes={"http", "https", "mailto"},
    )
    # What comes out of nh3 is regular: attributes are quoted, and nothing in them has a quote or a bracket.
    safe = _PICTURE.sub(_in_words, safe)
    safe = _ALERT.sub(_alert, safe)
    safe = _HEAD_CELL.sub('<th scope="col"', safe)
    return Markup(_in_place(safe))  # noqa: S704 - it was cleaned just now


_one_at_a_time: Final = threading.Lock()
"""The worst that can be written takes seconds: of one thread, while the others answer."""


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Return the value of an attribute that is kept."""
    if (tag, name) == ("a", "href"):
        # What is relative is so to upstream's own pages.
        return value if _LINKS.match(value) else None
    if name in {"colspan", "rowspan", "start"}:
        return value if _SPAN.fullmatch(value) else None
    return value


def _in_words(picture: re.Match[str]) -> str:
    words = (picture[1] or "").strip()
    return f'<span class="picture">{words or "a picture"}</span>'


def _alert(alert: re.Match[str]) -> str:
    return f"<blockquote>\n<p><strong>{alert[1].capitalize()}.</strong> "


def _in_place(html: str) -> str:
    """Return HTML whose headings go down step by step, from the level below the page's own."""
    level = _TOP - 1
    open_levels: list[int] = []

    def moved(heading: re.Match[str]) -> str:
        nonlocal level
        if heading[1]:
            return f"</h{open_levels.pop()}>" if open_levels else ""
        level = min(level + 1, max(_TOP, min(int(heading[2]) + _TOP - 1, 6)))
        open_levels.append(level)
        return f"<h{level}>"

    return _HEADING.sub(moved, html)
