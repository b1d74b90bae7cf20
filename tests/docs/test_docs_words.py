"""What no page and no help text may say: paths of one machine, loose ends, praise."""

from __future__ import annotations

import re

import docskit
import pytest

BANNED = re.compile(
    r"/work/|/root/|\bissue #|\bTODO\b|\bFIXME\b|\bTBD\b|\blorem ipsum\b"
    r"|\bblazing|\bseamless|\bcutting[- ]edge|\bstate[- ]of[- ]the[- ]art|\bpowerful\b"
    r"|\brobust\b|\brevolutionary\b|\beffortless|\bsimply\b|\bleverag",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", docskit.pages(), ids=docskit.page_id)
def test_pages(page):
    assert not BANNED.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", docskit.commands())
def test_help_texts(name):
    command = docskit.commands()[name]
    texts = [command.help or "", command.epilog or ""]
    texts += [getattr(option, "help", "") or "" for option in command.params]
    assert not BANNED.findall(" ".join(texts))
