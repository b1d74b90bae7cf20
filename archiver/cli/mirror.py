"""``archiver mirror``."""

from __future__ import annotations

import re
from typing import Any

import click

from archiver.cli.mirroring import mirror_all, mirror_options, open_upstream, tokens_of
from archiver.cli.options import (
    advised,
    common,
    split_reference,
    token_option,
)
from archiver.errors import UsageError
from archiver.text import printable

_ADDRESS = re.compile(
    r"https?://[^/]+/((?:datasets/)?[^/]+/[^/@?#]+)(?:/(?:tree|blob|resolve|commit)/([^/?#]+))?"
)


@click.command(
    epilog="Example: archiver mirror -C weights Qwen/Qwen3.5-0.8B Qwen/Qwen3.5-4B@main --max-rate 50MB"
)
@click.argument("references", metavar="REPO[@REVISION]...", nargs=-1, required=True)
@click.option(
    "--revision", help="The revision of every REPO that names none. [default: the main branch]"
)
@token_option
@mirror_options
@common
def command(
    references: tuple[str, ...], revision: str | None, token: str | None, **rest: Any
) -> None:
    """Bring repositories from the hub into the archive.

    Each file is streamed once, checked against the hub's own digests, compressed and stored; a
    revision becomes visible only when all of it is there. What the archive holds already is not fetched.
    An interrupted run goes on where it stopped. Org/Name is a model of Hugging Face, modelscope:Org/Name
    one of ModelScope; a dataset is datasets/Org/Name there. HF_ENDPOINT and MODELSCOPE_ENDPOINT name
    other hubs.
    """
    named = []
    for reference in references:
        _refuse_address(reference)
        repository, own = split_reference(reference)
        named.append((repository, _hub_of(repository), own or revision))
    sources = rest.pop("sources")
    hubs = open_upstream(
        sources,
        tokens_of(token, {*sources, *(hub for _, hub, _ in named)}),
        rest.pop("max_rate"),
        rest.pop("connections"),
        rest["memory"],
    )
    mirror_all([(hubs, repository, wanted) for repository, _, wanted in named], **rest)


def _hub_of(repository: str) -> str:
    """Return a repository's hub; raise UsageError, with what to do instead, if it is not fetched from."""
    from archiver.names import HUGGING_FACE, MODELSCOPE, RepositoryName

    hub = RepositoryName.parse(repository).hub
    if hub not in {HUGGING_FACE, MODELSCOPE}:
        raise UsageError(
            f"{repository} is on no hub that this version fetches from: it knows Hugging Face and "
            "ModelScope. What was downloaded from elsewhere is imported.",
            hint=f"Download it with the tools of its hub, then run "
            f"{advised('import', 'DIR', '--as', repository)}.",
        )
    return hub


def _refuse_address(reference: str) -> None:
    """Raise UsageError that says how to write it, if what was typed is the address of a page."""
    if "://" not in reference:
        return
    address = _ADDRESS.match(reference)
    right = (
        (address[1] + (f"@{address[2]}" if address[2] else ""))
        if address
        else "Qwen/Qwen3.5-0.8B@main"
    )
    raise UsageError(
        f"{printable(reference)} is an address, not the name of a repository.",
        hint=f"Write it as {printable(right)}; HF_ENDPOINT names another hub.",
    )
