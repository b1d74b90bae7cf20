"""``archiver mirror``."""

from __future__ import annotations

from typing import Any

import click

from archiver.cli.mirroring import mirror_all, mirror_options
from archiver.cli.options import common, split_reference


@click.command(
    epilog="Example: archiver mirror -C weights Qwen/Qwen3.5-0.8B Qwen/Qwen3.5-4B@main --max-rate 50MB"
)
@click.argument("references", metavar="REPO[@REVISION]...", nargs=-1, required=True)
@click.option("--revision", help="The revision of every REPO that names none. [default: main]")
@click.option("--token", envvar="HF_TOKEN", help="An access token. [env: HF_TOKEN]")
@mirror_options
@common
def command(
    references: tuple[str, ...], revision: str | None, token: str | None, **rest: Any
) -> None:
    """Bring repositories from the hub into the archive.

    Each file is streamed once, checked against the hub's own digests, compressed and stored; a
    revision becomes visible only when all of it is there. What the archive holds already is not fetched.
    An interrupted run goes on where it stopped. The hub is that of HF_ENDPOINT, if set.
    """
    from archiver.upstream.huggingface import HuggingFace  # noqa: PLC0415 - loads the hub's client
    from archiver.upstream.throttle import Throttle  # noqa: PLC0415

    rate = rest.pop("max_rate")
    upstream = HuggingFace(token, throttle=Throttle(rate) if rate else None)
    wanted = []
    for reference in references:
        repository, own = split_reference(reference)
        wanted.append((upstream, repository, own or revision))
    mirror_all(wanted, **rest)
