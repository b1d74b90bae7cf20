"""``python -m kit.lost_signal WORDS``: as ``kit.by_catalogue``, told to end where no signal can raise.

That is in whatever Python or a library calls back: here, in the end of an object.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archiver.__main__ import main
from archiver.archive import lookup
from archiver.catalogue import database

lookup.PACKS_READ = -1
retry_while_busy = database.retry_while_busy


class Ends:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass  # here it is raised


def retry(path: Path, attempt: Callable[[], Any]) -> Any:
    def attempted() -> Any:
        try:
            return attempt()
        except Exception:
            Ends()
            raise

    return retry_while_busy(path, attempted)


if __name__ == "__main__":
    database.retry_while_busy = retry
    main()
