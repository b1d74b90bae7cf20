"""``archiver keys``."""

from __future__ import annotations

from pathlib import Path

import click

from archiver.cli import output
from archiver.cli.options import advised, common, password
from archiver.cli.snapshots import facts


@click.group(epilog="Example: archiver keys new ~/keys/archive")
def command() -> None:
    """Make or show the keys that sign what an archive holds."""


@command.command(epilog="Example: archiver keys new ~/keys/archive --comment 'weights, 2026'")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--no-password", is_flag=True, help="Use no password: whoever has the file can sign.")
@click.option("--comment", default="", metavar="TEXT", help="The first line of both files.")
@common
def new(path: Path, no_password: bool, comment: str) -> None:
    """Make a new pair of keys: PATH.key, which is secret, and PATH.pub.

    They are files of the program minisign. The password is asked for, or taken from
    ARCHIVER_KEY_PASSWORD.
    """
    from archiver.archive.signing.keys import SecretKey, new_pair, write_pair

    secret = new_pair(path).secret  # before anybody types a password
    chosen = "" if no_password else password(str(secret), twice=True)
    key = SecretKey.new()
    files = write_pair(path, key, chosen, comment)
    public = key.public.text
    output.record("key", id=key.id, public=public, secret_file=str(files.secret),
                  public_file=str(files.public))  # fmt: skip
    output.line(f"Public key {key.id}: {public}")
    output.line(f"Secret: {files.secret}. Keep it, and a copy of it, away from the archive.")
    output.line(f"Public: {files.public}. Keep a copy outside the archive too.")
    next_ = advised("sign", "--key", str(files.secret), or_else="DIR")
    output.line(f"Sign what the archive holds with {next_}.")


@command.command(epilog="Example: archiver keys show ~/keys/archive.pub")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@common
def show(file: Path) -> None:
    """Show the id and the public key of a .pub or .key file, or who made a .minisig.

    The password of a secret key is asked for: without it, not even the key's id can be read.
    """
    from archiver.archive.signing.keys import LockedKey, identify
    from archiver.archive.signing.minisign import Signature

    content = identify(file)
    if isinstance(content, Signature):
        what, fields = "signature", {"id": content.key, "comment": content.remark}
    elif isinstance(content, LockedKey):
        key = content.unlock(password(str(file)) if content.needs_password else "")
        what, fields = "secret key", {"id": key.id, "public": key.public.text}
    else:
        what, fields = "public key", {"id": content.id, "public": content.text}
    output.record("key", what=what, **fields)
    facts([("what", what), *fields.items()])
