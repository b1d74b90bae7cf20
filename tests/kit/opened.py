"""``python -m kit.opened FILE WORDS``: as ``archiver``, and lists in FILE what was opened, in order.

What C libraries open by themselves, as SQLite does, is not seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path


def opened_by(root: Path, *words: object, inside: Path | None = None) -> Counter[str]:
    """Run a command on the archive; return how often it opened each kind of file there, or ``inside``.

    A kind is the folder at the archive's top, or the file's name there.
    """
    inside = inside or root
    listed = root.with_name(f"{root.name}-opened.json")
    command = [sys.executable, "-m", "kit.opened", str(listed), *map(str, words), "-C", str(root)]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [Path(path) for path in json.loads(listed.read_text())]
    opened = (path.relative_to(inside) for path in names if path.is_relative_to(inside))
    return Counter(path.parts[0] for path in opened if path.parts)


def main() -> None:
    """Run the command."""
    target, *words = sys.argv[1:]
    opened: list[str] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            opened.append(os.fsdecode(arguments[0]))

    sys.addaudithook(note)
    from archiver.cli.main import invoke

    code = invoke(words)
    Path(target).write_text(json.dumps(opened))
    sys.exit(code)


if __name__ == "__main__":
    main()
