"""``python -m kit.ended_at_a_thread NAME WORDS``: as ``archiver``, told to end while it starts a thread.

Python has no record of the thread yet when the signal comes: a moment that is hard to hit otherwise.
"""

import os
import signal
import sys
import threading

from archiver.__main__ import main

start, prefix = threading.Thread.start, sys.argv.pop(1)


def start_and_end(self: threading.Thread) -> None:
    start(self)
    if self.name.startswith(prefix):
        threading.Thread.start = start
        print("told to end", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread.start = start_and_end
    main()
