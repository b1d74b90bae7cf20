"""What a finding's code means and what to do about it: a section of ``docs/findings.md``, carried along."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib import resources
from typing import get_args

from archiver.archive.finding import Code
from archiver.errors import UsageError

_MEND = "How to mend an archive"


def explanation(code: str) -> str:
    """The section about a code and, for damage of an archive, how to mend one; UsageError if unknown."""
    known = get_args(Code)
    if code not in known:
        near = get_close_matches(code, known, 3) or known
        raise UsageError(f"There is no finding {code!r}.", hint=f"There are: {', '.join(near)}.")
    page = (resources.files("archiver") / "carried" / "findings.md").read_text(encoding="utf-8")
    of_audit = page.partition("\n## Findings of `audit`\n")[2].partition("\n## ")[0]
    title = f"### `{code}`"
    mend = [_section(page, f"## {_MEND}")] if f"\n{title}\n" in of_audit else []
    return "\n\n".join([_section(page, title), *mend])


def _section(page: str, title: str) -> str:
    """A heading and what stands below it, without the marks of headings and links."""
    rest = page.partition(f"\n{title}\n")[2]
    text = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0].strip()
    name = title.strip("# `")
    return f"{name}\n\n" + re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
