"""Commands run in a child whose peak of memory is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kit.cli import Result

PEAK_MB = 400
"""What a reader may take, whatever an archive holds: the bound of docs/bounds.md."""
ENDS_SECONDS = 480
"""Far more than any of it takes on a busy machine; what never ends, fails."""

_MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, timeout=%d)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
sys.stdout.write(json.dumps([done.returncode, peak // 1024, *(
    text.decode("utf-8", "surrogateescape")[-200_000:] for text in (done.stdout, done.stderr))]))
"""


class Measured(Result):
    """How a command ended, and the most memory (MB) that it had."""

    peak: int

    def cheap(self) -> Measured:
        """This, if it took little and ended with a sentence."""
        assert self.peak < PEAK_MB, f"{self.peak} MB\n{self.err[-2000:]}"
        assert "Traceback" not in self.err, self.err[-4000:]
        assert "did not expect" not in self.err, self.err[-4000:]
        return self


def measured(*command: object) -> Measured:
    """Run a command as a child of a small process: what a large one forks would count as its own."""
    arguments = [sys.executable, "-c", _MEASURE % ENDS_SECONDS, *map(str, command)]
    done = subprocess.run(arguments, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    code, peak, out, err = json.loads(done.stdout)
    result = Measured(code, out, err)
    result.peak = peak
    return result


def archiver(*arguments: object) -> Measured:
    """Run archiver in a child."""
    return measured(sys.executable, "-m", "archiver", *arguments)


def decode(root: Path, *arguments: object) -> Measured:
    """Run the reader that every archive carries, on the archive in ``root``."""
    import archiver as package

    script = Path(package.__file__).parent / "carried" / "decode.py"
    return measured(sys.executable, "-I", script, "-C", root, *arguments)
