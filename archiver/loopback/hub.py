"""The hub itself: what a test, a bench or the demonstration builds and talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from archiver.loopback.faults import Fault, Faults
from archiver.loopback.log import Log
from archiver.loopback.registry import Registry
from archiver.loopback.routes import HUGGING_FACE
from archiver.loopback.server import Port, Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Hub(Registry):
    """A registry that is served on 127.0.0.1, with its CDN on a second port.

    ::

        with Hub() as hub:
            hub.create("org/name", {"config.json": b"{}", "m.safetensors": Path("weights")})
            HfApi(endpoint=hub.endpoint).model_info("org/name")

    ``endpoint`` is the hub's address, as HF_ENDPOINT wants it, and ``cdn`` the one to which it sends
    those who ask for LFS files. ``faults`` spoils answers, ``requests`` logs them. A bug in the hub
    itself is raised when the ``with`` block ends.
    """

    routes = HUGGING_FACE
    """Its addresses, and the answers to them."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__()
        self.faults = Faults()
        self.requests = Log()
        self._service = Service(self, self.faults, self.requests, self.routes)
        self._hub_port = Port("hub", self._service, port)
        self._cdn_port = Port("cdn", self._service)
        self.endpoint = self._hub_port.address
        self.cdn = self._cdn_port.address

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._service.problems and error is None:
            raise self._service.problems[0]

    def start(self) -> None:
        """Listen; after a stop, on the same ports as before."""
        self._service.stopping.clear()
        # The CDN first: whoever reaches the hub may be sent there at once.
        self._cdn_port.start()
        self._hub_port.start()

    def stop(self) -> None:
        """Listen no more, cut every connection, and wait for all threads."""
        self._service.stopping.set()
        self._hub_port.stop()
        self._cdn_port.stop()

    @property
    def rate(self) -> float | None:
        """Bytes a second of all bodies together; None, the default, for no limit."""
        return self._service.link.rate

    @rate.setter
    def rate(self, value: float | None) -> None:
        self._service.link.rate = value

    @property
    def connection_rate(self) -> float | None:
        """Bytes a second of the bodies of each connection; None, the default, for no limit."""
        return self._service.link.connection_rate

    @connection_rate.setter
    def connection_rate(self, value: float | None) -> None:
        self._service.link.connection_rate = value

    @property
    def delay(self) -> float:
        """Seconds between a request and the beginning of its answer: a round trip of the link."""
        return self._service.link.delay

    @delay.setter
    def delay(self, value: float) -> None:
        self._service.link.delay = value

    def after_listing(self, repository: str, call: Callable[[], object]) -> None:
        """Run ``call`` once, when the tree of ``repository`` has been listed to its last page."""
        self.faults.add(Fault("call", route="tree", repository=repository, call=call))
