"""A card of a stranger becomes HTML in which nothing runs, asks elsewhere, or passes for the page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.web.pages.card import TEXT_MAX, rendered, shown_card

ALLOWED = {
    "a": {"href", "rel"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
ALLOWED |= {"ol": {"start"}, "span": {"class"}}
NEVER = {
    "script",
    "style",
    "img",
    "iframe",
    "form",
    "input",
    "button",
    "svg",
    "math",
    "link",
    "meta",
    "base",
}
NEVER |= {
    "html",
    "head",
    "body",
    "main",
    "h1",
    "h2",
    "object",
    "embed",
    "video",
    "audio",
    "template",
}


class Checked(HTMLParser):
    """Everything is closed in its turn, and nothing is there that could harm."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.feed(html)
        self.close()
        assert not self.open
        for above, below in zip([2, *self.headings], self.headings, strict=False):
            assert 3 <= below <= above + 1

    def handle_starttag(self, tag, attrs):
        assert tag not in NEVER
        assert {name for name, _ in attrs} <= ALLOWED.get(tag, set())
        values = dict(attrs)
        if "href" in values:
            assert re.match("https?://|mailto:", values["href"], re.IGNORECASE)
            assert "noopener" in values["rel"]
        if tag not in {"br", "hr"}:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


PIECES = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<img alt="a>b" src="https://e.org/x.png">',
        "![words](https://e.org/x.png 'title')",
        "[text](javascript:alert(1))",
        "[text](data:text/html,x)",
        "<a href=' javascript:x'>",
        "[text](https://e.org/?a=1&b=2)",
        "<https://e.org>",
        "</div></section></main><h1>",
        "<h1 id=content class=x>",
        "# One\n",
        "#### Four\n",
        "<table><tr><th>a",
        "|a|b|\n|-|-|\n|1|2|\n",
        "<style>*{display:none}</style>",
        "<svg onload=alert(1)><title>",
        "<math><mtext><style><img src=x onerror=1>",
        "<!-- ",
        "-->",
        "<![CDATA[",
        "> [!NOTE]\n> x\n",
        "`<b>`",
        "```\n<i>\n",
        "&lt;script&gt;",
        "&#60;img&#62;",
        "\u202e\u2066",
        "\x00\x1b[31m\x9b",
        '"',
        "'",
        "<",
        ">",
        "\n\n",
        " ",
        "<details><summary>s",
        "<td style='position:fixed' background=x>",
        "<template><p>",
        "<noscript><p title='</noscript><img src=x onerror=1>'>",
    ]
)


@given(st.lists(PIECES | st.text(max_size=6), max_size=12).map("".join))
def test_whatever_a_card_holds_is_harmless(text):
    html = str(rendered(text))
    Checked(html)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f-\x9f]", html)


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("# A\n### B\n# C", "<h3>A</h3>\n<h4>B</h4>\n<h3>C</h3>\n"),
        ("![a logo](x.png)", '<p><span class="picture">a logo</span></p>\n'),
        ("![](x.png)", '<p><span class="picture">a picture</span></p>\n'),
        ("[it](LICENSE)", '<p><a rel="noopener noreferrer nofollow">it</a></p>\n'),
        ("~~a~~ **b** `c`", "<p><s>a</s> <strong>b</strong> <code>c</code></p>\n"),
        ("> [!NOTE]\n> So.", "<blockquote>\n<p><strong>Note.</strong> So.</p>\n</blockquote>\n"),
    ],
)
def test_what_is_harmless_is_shown(markdown, html):
    assert str(rendered(markdown)) == html


def test_a_table_is_a_table():
    html = str(rendered("|a|\n|-|\n|1|"))
    assert '<th scope="col">a</th>' in html
    assert "<td>1</td>" in html


def test_front_matter_becomes_facts_and_is_bounded():
    tags = "".join(f"- tag{number}\n" for number in range(100))
    card = shown_card(f"---\nlicense: mit\ntags:\n{tags}---\n# T".encode())
    assert [(fact.title, fact.values[0], fact.more) for fact in card.facts] == [
        ("Licence", "mit", 0),
        ("Tags", "tag0", 76),
    ]
    assert str(card.html) == "<h3>T</h3>\n"
    assert not shown_card(b"---\nlicense: [[[\n---\nx").facts


def test_a_long_card_is_cut_and_says_so():
    card = shown_card(b"word " * (TEXT_MAX // 4))
    assert card.cut
    assert len(card.html) < TEXT_MAX + 100
    assert not shown_card(b"\xff\xfe short").cut
