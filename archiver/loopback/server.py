"""A listening port of 127.0.0.1 and its connections, one thread each, all joined at the end."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_HOST = "127.0.0.1"
_BACKLOG = 128


class Server:
    """Accepts connections and runs ``serve`` on each, in a thread of its own.

    ``serve`` may raise OSError, which is how a connection ends that breaks or that ``stop`` cuts.
    """

    def __init__(self, name: str, serve: Callable[[socket.socket], None]) -> None:
        self._name = name
        self._serve = serve
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._reserved: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._connections: dict[socket.socket, threading.Thread] = {}
        self.port = 0

    def start(self) -> None:
        """Listen: on the port that was set, or a free one, and on the same one after a stop."""
        self._stopping.clear()
        if self._reserved is None:
            # Bound, and never listening: connections are refused after a stop, and no other program
            # of a busy machine gets the port until this server comes back.
            self._reserved = _bound(self.port)
            weakref.finalize(self, self._reserved.close)
            self.port = self._reserved.getsockname()[1]
        self._listener = _bound(self.port)
        self._listener.listen(_BACKLOG)
        self._acceptor = threading.Thread(target=self._accept, name=self._name, daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Listen no more, cut every connection, and wait for all threads."""
        if self._listener is None or self._acceptor is None:
            return
        with self._lock:
            self._stopping.set()
        self._wake()
        self._acceptor.join()
        self._listener.close()
        self._listener = None
        for connection, thread in self._open():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
        self._connections.clear()

    def _open(self) -> list[tuple[socket.socket, threading.Thread]]:
        with self._lock:
            return list(self._connections.items())

    def _wake(self) -> None:
        # Closing a socket does not wake the thread that waits in accept(); a connection does.
        with contextlib.suppress(OSError):
            socket.create_connection((_HOST, self.port), timeout=1).close()

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._stopping.is_set():
            connection, _ = self._listener.accept()
            thread = threading.Thread(
                target=self._run, args=(connection,), name=f"{self._name}-connection", daemon=True
            )
            with self._lock:
                if self._stopping.is_set():
                    connection.close()
                    return
                self._connections[connection] = thread
                self._forget_finished()
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                self._serve(connection)
        finally:
            connection.close()

    def _forget_finished(self) -> None:
        # Not done by the threads themselves: stop() could then return before the last has ended.
        for connection, thread in list(self._connections.items()):
            if thread.ident is not None and not thread.is_alive():
                del self._connections[connection]


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Not SO_REUSEADDR, with which any program could listen on a port where nobody listens.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((_HOST, port))
    return bound
