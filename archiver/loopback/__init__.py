"""A small hub that speaks Hugging Face's protocol on 127.0.0.1, for demonstrations and tests."""

from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub
from archiver.loopback.log import Record

__all__ = ["Fault", "Hub", "Record"]
