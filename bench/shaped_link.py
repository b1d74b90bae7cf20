"""``python shaped_link.py PORT RATE``: pass connections on to a port of this machine, all at RATE together.

So that servers which cannot be slowed themselves are compared over the same link. Prints its address, and
ends when its input does.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

_PIECE = 256 << 10


class Link:
    """So many bytes a second, from all servers to all clients."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, count: int) -> None:
        """Wait until that many bytes have gone over the link."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() - 0.02) + count / self._rate
            wait = self._free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)


def main() -> None:
    """Take connections until nobody is there."""
    port, link = int(sys.argv[1]), Link(float(sys.argv[2]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    threading.Thread(target=_accept, args=(listener, port, link), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket, port: int, link: Link) -> None:
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for pair in ((client, server, None), (server, client, link)):
            threading.Thread(target=_pass, args=pair, daemon=True).start()


def _pass(source: socket.socket, target: socket.socket, link: Link | None) -> None:
    buffer = memoryview(bytearray(_PIECE))
    try:
        while count := source.recv_into(buffer):
            if link is not None:
                link.take(count)
            target.sendall(buffer[:count])
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


if __name__ == "__main__":
    main()
