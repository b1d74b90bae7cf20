"""``START-HERE.html`` of a volume: what to do with it, for whoever has this medium and nothing else.

A page of text: no script, no style from elsewhere, and every command as it is typed.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from archiver.archive.bundles.records import TOOLS_VOLUME, folder_of
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from archiver.archive.bundles.records import Bundle

_MODELS_SHOWN: Final = 200
_MESSAGES: Final = (
    (
        "All … files of the tool are as bundle.json lists them.",
        (
            "archiver on this medium is as it was written. The number below that line stands in "
            "MANIFEST.md too: if you were given a copy of that sheet on another way, it must be the same."
        ),
    ),
    (
        "REFUSED, nothing was installed",
        (
            "A file in the folder tools is damaged, was changed, is missing, or is one too many. Nothing "
            "of it was run. Do not go on with it: have volume 1 written anew. The models can still be "
            "restored with decode.py."
        ),
    ),
    ("Installed:", "archiver is there. The commands that come next stand below that line."),
    ("is whole", "Every file of the volume was read, and is what was written."),
    (
        "is NOT whole",
        "The lines below it name each file and what is wrong with it, such as damaged or missing.",
    ),
    (
        "Parity makes it whole.",
        "The file is damaged, and can be made whole by what is beside it. Import and restore do that.",
    ),
    (
        "was not written to its end",
        "The medium was pulled out too soon. Have this volume written again.",
    ),
    ("not looked at:", "These volumes lie on other media. Nothing is wrong with this one."),
    ("taken in", "What this volume has is in the archive, or waits there for the other volumes."),
    ("Waiting:", "The model is not complete. Go on with the volumes that the line names."),
    (
        "is in the archive now; every file was decoded and hashed.",
        "Done: this model is there, and every byte of it is what was sealed.",
    ),
    (
        "REFUSED",
        (
            "What came contradicts itself, or what is in the archive. Nothing of it was taken in. Ask "
            "whoever made the bundle."
        ),
    ),
)
"""What the commands say, and what it means. A test holds the first of each against what they do say."""


def start_page(bundle: Bundle, number: int) -> bytes:
    """Return the page of one volume."""
    title = f"Volume {number} of {bundle.volumes}"
    page = f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
<h1>{title}</h1>
<p>This medium carries models of machine learning to a machine that no network reaches. It has:</p>
<ul>{_models(bundle)}</ul>
{_incremental(bundle)}<p>Nothing on it runs by itself, and nothing on it has to be changed: it
may be mounted read-only. What it carries in detail, and a sheet to sign, is in the file
MANIFEST.md. Bundle {bundle.id}.</p>
<p>Open a terminal, and go to the folder in which this page lies. All commands below are typed
there.</p>
{_volumes(bundle, number)}{_install(bundle, number)}{_with_archiver(bundle)}{_without(bundle)}
<h2>What the messages mean</h2>
<table>
{_messages()}
</table>
<p>A command that went well ends with 0 (<code>echo $?</code> says it). 3: something is still to
come, such as a volume. 20: something is damaged, and was named. 22: refused. 31: the disk is
full; make room, and type the same command again. Whatever was interrupted goes on with the same
command.</p>
</body>
</html>
"""
    return page.encode()


def _models(bundle: Bundle) -> str:
    shown = "".join(
        f"<li>{escape(printable(each.repository))}, revision {escape(each.revision)}</li>"
        for each in bundle.snapshots[:_MODELS_SHOWN]
    )
    more = len(bundle.snapshots) - _MODELS_SHOWN
    return shown + (f"<li>and {more:,} more, which MANIFEST.md lists</li>" if more > 0 else "")


def _incremental(bundle: Bundle) -> str:
    if not bundle.base:
        return ""
    return (
        "<p><b>This bundle is incremental.</b> It needs an archive that has what it leaves out: import it "
        "there. Alone it can be checked, and not restored.</p>\n"
    )


def _volumes(bundle: Bundle, number: int) -> str:
    if bundle.volumes == 1:
        return ""
    return (
        f"<p>There are {bundle.volumes} volumes, in folders called {folder_of(1)} to "
        f"{folder_of(bundle.volumes)}, on one medium or on several. This is {folder_of(number)}. "
        "Where several lie beside each other, <code>..</code> in place of <code>.</code> in a command "
        "means all of them.</p>\n"
    )


def _install(bundle: Bundle, number: int) -> str:
    if bundle.tools is None:
        return ""
    if number != TOOLS_VOLUME:
        return (
            "<h2>No archiver on that machine?</h2>\n"
            f"<p>The first volume, {folder_of(TOOLS_VOLUME)}, brings it. Begin with the page there.</p>\n"
        )
    wheels = sum(1 for file in bundle.tools.files if file.package)
    return f"""<h2>No archiver on that machine? Install it from here</h2>
<p>It needs Linux and a Python of those that it was brought for:
{escape("; ".join(bundle.tools.targets))} (py311 is Python 3.11). It needs no network. This is
the one command:</p>
<pre>sh tools/install.sh ~/archiver</pre>
<p>It first compares all files of the folder tools with their list ({plural(wheels, "wheel")},
{human_bytes(bundle.tools.bytes)}). Then it installs them to ~/archiver, which may be any new
folder, and nowhere else. To be rid of it, remove that folder. After it, in this terminal:</p>
<pre>export PATH=~/archiver/bin:$PATH</pre>
"""


def _with_archiver(bundle: Bundle) -> str:
    first = escape(printable(bundle.snapshots[0].repository))
    further = ""
    if bundle.volumes > 1:
        further = """<p>Then, from the folder of each further volume, in any order:</p>
<pre>archiver bundle verify --part .
archiver bundle import -C ~/weights .</pre>
"""
    direct = ""
    if not bundle.base:
        others = " (in place of the dot, the folders of all volumes)" if bundle.volumes > 1 else ""
        direct = f"""<p>To write the files of a model without keeping an archive{others}:</p>
<pre>archiver bundle restore . --snapshot {first} ~/from-volumes</pre>
"""
    return f"""<h2>With archiver</h2>
<p>Check this volume, and take it into an archive, here in the folder ~/weights.
<code>--new</code> begins the archive; leave it out where there is one already.</p>
<pre>archiver bundle verify --part .
archiver bundle import -C ~/weights --new .</pre>
{further}<p>Then, from anywhere: which models are there, and the files of one to a new folder.</p>
<pre>archiver list -C ~/weights
archiver restore -C ~/weights {first} ~/model</pre>
{direct}"""


def _without(bundle: Bundle) -> str:
    first = escape(printable(bundle.snapshots[0].repository))
    others = ""
    if bundle.volumes > 1:
        others = f"""<p>It also reads the volumes that lie beside this one. Those on other media
are named:</p>
<pre>python3 -I decode.py --packs /media/other/{folder_of(2)} restore {first} ~/by-hand</pre>
"""
    return f"""<h2>Without archiver</h2>
<p>With any Python from 3.8 on and nothing else, also where archiver cannot be installed (slowly,
if there is no program zstd):</p>
<pre>sha256sum -c --quiet sha256sums.txt
python3 -I decode.py list
python3 -I decode.py restore {first} ~/by-hand</pre>
{others}<p>The first compares this volume with its list, and says nothing if all is well.
README.txt says how it goes by hand, without any program; FORMAT.md says all the rest.</p>
"""


def _messages() -> str:
    return "\n".join(
        f"<tr><td><code>{escape(said)}</code></td><td>{escape(meaning)}</td></tr>"
        for said, meaning in _MESSAGES
    )
