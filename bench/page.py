"""Puts the newest table into docs/benchmarks.md, between its two marks."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: newest full run -->", "<!-- end -->"


def paste(text: str) -> None:
    """Replace what stands between the marks; the table's headings go down two levels."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    lowered = "\n".join(f"##{line}" if line.startswith("#") else line for line in text.splitlines())
    PAGE.write_text(f"{before}{BEGIN}\n\n{lowered}\n\n{END}{after}", encoding="utf-8")
