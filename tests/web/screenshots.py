"""The pictures of pages in the docs: which there are, and how they are made anew (``make screenshots``)."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from browserkit import browser, port_of_pages
from kit import showcase

if TYPE_CHECKING:
    from browserkit import Browser

FOLDER = Path(__file__).parents[2] / "docs" / "images"
HOST = "weights.lan"
"""What the server is called in the pictures."""
BYTES_MAX = 200_000
_GAP = 24


class Picture(NamedTuple):
    """A picture: the pages in it, from left to right, and the window that each is looked at through.

    ``{revision}`` in a path is that of ``showcase.LARGE_INT4``. ``says`` are words that each page has.
    """

    name: str
    paths: tuple[str, ...]
    says: tuple[str, ...]
    width: int
    height: int
    scheme: str


PICTURES = (
    Picture(
        "pages-repositories.png",
        ("/repositories",),
        ("Also files and tensors",),
        1280,
        880,
        "light",
    ),
    Picture(
        "pages-revision.png",
        (f"/repositories/{showcase.LARGE_INT4}/revisions/{{revision}}",),
        ("Storage saved",),
        1280,
        1000,
        "dark",
    ),
    Picture("pages-fixity.png", ("/fixity",), ("Calendar of proofs",), 1280, 1130, "light"),
    Picture(
        "pages-narrow.png",
        ("/status", "/plans", "/journal"),
        ("Copies that count", "What is due", "What happened"),
        390,
        844,
        "dark",
    ),
)


def shots(look: Browser, picture: Picture, at: str, revision: str) -> list[Image.Image]:
    """What the pages of a picture look like now; each must say what it is there for."""
    look.window(picture.width, picture.height, scheme=picture.scheme)
    taken = []
    for path, says in zip(picture.paths, picture.says, strict=True):
        look.go(at + path.format(revision=revision))
        text = look.run("document.body.textContent")
        assert says in text, (path, says)
        taken.append(Image.open(io.BytesIO(look.picture())).convert("RGB"))
    return taken


def joined(taken: list[Image.Image]) -> Image.Image:
    """One picture of several, side by side."""
    if len(taken) == 1:
        return taken[0]
    width = sum(each.width for each in taken) + _GAP * (len(taken) - 1)
    whole = Image.new("RGB", (width, taken[0].height), "#808080")
    for number, each in enumerate(taken):
        whole.paste(each, (number * (each.width + _GAP), 0))
    return whole


def few_colours(whole: Image.Image) -> Image.Image:
    """The picture in its 256 commonest colours: those of pages are flat, and it is a third as large."""
    colours = sorted(whole.getcolors(whole.width * whole.height) or (), reverse=True)[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in colours for part in colour])
    return whole.quantize(palette=palette, dither=Image.Dither.NONE)


def revision_of(root: Path) -> str:
    """The revision that a path with one stands for."""
    folder = root / "manifests" / showcase.LARGE_INT4.lower()
    return next(folder.iterdir()).name.partition(".")[0]


def main() -> None:
    """Make all pictures anew."""
    work = Path(tempfile.mkdtemp())
    try:
        root = showcase.build(work)
        with (
            chdir(work),
            showcase.standing_clock(),
            port_of_pages(Path(root.name), HOST) as at,
            browser(work / "profile", f"MAP {HOST} {at.removeprefix('http://')}") as look,
        ):
            for picture in PICTURES:
                whole = joined(shots(look, picture, f"http://{HOST}", revision_of(root)))
                file = FOLDER / picture.name
                few_colours(whole).save(file, optimize=True)
                print(f"{file}: {whole.width} x {whole.height}, {file.stat().st_size:,} bytes")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
