"""The command line: which commands there are, and how an error becomes a sentence and an exit code.

Nothing heavy is imported here; a command's module is loaded when the command runs.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
from itertools import takewhile
from typing import Any, Final

import click

from archiver import __version__, memory
from archiver.cli import output
from archiver.cli.output import print_error
from archiver.errors import ArchiverError, ExitCode, explain_system_error
from archiver.progress import stop_requested
from archiver.text import printable

_log = logging.getLogger(__name__)
_told_to_end = threading.Event()
"""Set by a signal; what else asks a run to stop, such as the end of a night's window, does not set it."""
_LAST_SECONDS: Final = 10
"""How long threads may take to end, once a run was told to."""

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Every day": {
        "init": ("init", "Create an empty archive."),
        "mirror": ("mirror", "Bring repositories from the hub into the archive."),
        "import": ("import_", "Bring a plain folder or a hub cache into the archive."),
        "sync": ("sync", "Mirror everything a plan lists."),
        "night": ("night", "Do everything that a plan and its archive need, in one go."),
        "watch": ("watch", "Look at repositories upstream, and journal what upstream did."),
        "status": ("status", "Show what is proven, copied, protected, and what falls short."),
        "doctor": ("doctor", "Look at all that a night needs: clock, disk, hubs, timers."),
        "schedule": ("schedule", "Have 'archiver night' run each night, by systemd or cron."),
        "restore": ("restore", "Write a snapshot, a file or a tensor back to disk."),
    },
    "Keep": {
        "audit": ("audit", "Decode and re-hash what the archive holds."),
        "repair": ("repair", "Bring back what is damaged or missing, from any good copy."),
        "parity": ("parity", "Make, remove and count the parity that repairs damaged files."),
        "policy": ("policy", "Show or set what is wanted of the archive."),
        "plan": ("plan", "Check a plan, show what a run of it would do, or end it."),
        "acknowledge": (
            "acknowledge",
            "Say that a loss upstream is known, so that it fails no run.",
        ),
        "catalogue": ("catalogue", "Rebuild the SQL index."),
        "forget": ("forget", "Take snapshots out of use. Never needed in normal use."),
        "prune": ("prune", "Delete what no snapshot needs. Never needed in normal use."),
    },
    "Carry": {
        "copy": ("copy", "Copy the archive, or some of its snapshots, to another folder."),
        "bundle": (
            "bundle",
            "Carry snapshots on volumes to where no network reaches.",
        ),
        "inventory": ("inventory", "Write what the archive has to a small file, for a bundle."),
        "receipt": (
            "receipt",
            "Tell home what arrived behind a gap, and count it there.",
        ),
        "export": ("export", "Write a snapshot in a form that other tools read."),
        "manifest": ("manifest", "Export or show manifests."),
        "verify": ("verify", "Check a plain folder against a manifest, without an archive."),
    },
    "Serve": {
        "serve": ("serve", "Serve the archive to other machines as a hub."),
        "mount": ("mount", "Show every snapshot as plain read-only files in a folder."),
    },
    "Trust": {
        "keys": ("keys", "Make or show the keys that sign what an archive holds."),
        "sign": ("sign", "Sign every snapshot, and the newest events of the journal."),
        "head": ("head", "Print or check what vouches for the archive's whole history."),
        "cross-check": (
            "cross_check",
            "Compare a repository on two hubs by digest, without fetching.",
        ),
        "smoke-test": ("smoke_test", "Run the model of a snapshot or of a folder."),
    },
    "Look": {
        "list": ("list_", "List the snapshots the archive holds."),
        "show": ("show", "Show one snapshot: source, files, tensors."),
        "search": ("search", "Search repositories with their cards, files and tensors."),
        "diff": ("diff", "Show which files and tensors differ between two snapshots."),
        "upstream": ("upstream", "Show a repository's history upstream, as it was seen."),
        "log": ("log", "Show what happened to the archive: the events of its journal."),
        "report": (
            "report",
            "Write a page of how the archive stands and what happened.",
        ),
        "stats": ("stats", "Show what the archive holds and what it saves."),
        "sql": ("sql", "Ask the catalogue in SQL, read-only."),
        "demo": ("demo", "Run the whole job on a small hub of its own, and report."),
    },
}
"""Group -> command -> its module in this package, and one line of help."""
COMMANDS = {name: command for commands in GROUPS.values() for name, command in commands.items()}


class LazyGroup(click.Group):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands, group by group."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"archiver.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does; for a name that is no command, name the nearest one that is."""
        import difflib

        close = difflib.get_close_matches(args[0], COMMANDS, 1)
        if args[0] not in COMMANDS and close:
            ctx.fail(f"No such command '{printable(args[0])}'. Did you mean {close[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in their groups, without importing them."""
        del ctx
        # As wide in every group, so that the texts stand below each other.
        width = max(map(len, COMMANDS))
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(n.ljust(width), text) for n, (_, text) in commands.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: archiver init -C weights && archiver mirror -C weights Qwen/Qwen3.5-0.8B",
)
@click.option(
    "-C",
    "--archive",
    envvar="ARCHIVER_ARCHIVE",
    metavar="DIR",
    help="The archive. [env: ARCHIVER_ARCHIVE; default: the current folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print results only, no progress.")
@click.option(
    "-v", "--verbose", "verbosity", count=True, help="Log to stderr what is done; -vv: in detail."
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="How the log of -v is written. [default: text]",
)
@click.version_option(__version__, prog_name="archiver")
@click.pass_context
def cli(ctx: click.Context, /, **settings: Any) -> None:
    """Keep open weights for good: mirror, check, store, audit and restore model repositories."""
    ctx.obj = settings


@cli.result_callback()
def _code(_result: object, /, **_settings: Any) -> int:
    """Return the exit code of a command that came to its end."""
    return output.shortfall()


def run(arguments: list[str] | None = None) -> None:
    """Run the tool and exit with its code."""
    _open_streams()
    _settle()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # One that is ignored stays so: that is what nohup is for.
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            signal.signal(number, _end)
    code = invoke(sys.argv[1:] if arguments is None else arguments)
    if code == ExitCode.INTERRUPTED:
        # All that was begun is put right. What threads still wait for must not keep the process.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(code))
        signal.alarm(_LAST_SECONDS)
    # At its end the interpreter looks for cycles in all that was ever loaded: 30 ms, for nothing.
    gc.freeze()
    sys.exit(code)


def _end(_number: int, _frame: object) -> None:
    """End as orderly as after Ctrl-C; threads that wait for others stop waiting."""
    _told_to_end.set()
    stop_requested.set()
    raise KeyboardInterrupt


def _open_streams() -> None:
    """Lead a stream that is closed (``>&-``) nowhere; else a stored file could get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
            if number == 1:
                output.note_closed_stdout()


def _settle() -> None:
    """Set up the process for few, large, long-lived buffers."""
    # numpy brings a linear algebra library whose threads would only spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Nearly all objects here are records without cycles; looking for some in them is wasted.
    gc.set_threshold(100_000, 20, 20)
    memory.keep_freed_blocks()


def invoke(arguments: list[str]) -> int:
    """Run the tool and return its exit code. Every error has become a sentence on stderr."""
    # An error that comes before a command has read its options must know of this one.
    words = takewhile(lambda word: word != "--", arguments)
    output.configure(as_json="--json" in words, quiet=False)
    started = time.monotonic()
    _told_to_end.clear()  # of an earlier run, where one process has several
    code = _invoke(arguments)
    if code in {ExitCode.FAILURE, ExitCode.LOCKED} and _told_to_end.is_set():
        # What a signal raises is lost in what a library calls back, where nothing can take it. Whatever
        # waits has given up then, and told so in its own words. Damage that was found still says so.
        code = _interrupted()
    _log.info("exit code %d after %.1f s", code, time.monotonic() - started)
    return code


def _invoke(arguments: list[str]) -> int:
    try:
        code = cli.main(arguments, prog_name="archiver", standalone_mode=False)
        output.flush()
        return int(code or 0)
    except click.ClickException as error:
        return _misused(error)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except ArchiverError as error:
        if isinstance(error, output.OutputError):
            # Python would try once more at its end, and say so in its own words.
            _leave_stdout()
        print_error(error.message, error.hint, int(error.exit_code), error.details)
        return int(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to say, and nobody to say it to.
        _leave_stdout()
        return int(ExitCode.FAILURE)
    except Exception as error:
        if os.environ.get("ARCHIVER_DEBUG"):
            raise
        return _unexpected(error)


def _interrupted() -> int:
    print_error("Interrupted.", "Nothing half-done was published; run it again to go on.", 130)
    return int(ExitCode.INTERRUPTED)


def _leave_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _misused(error: click.ClickException) -> int:
    code = int(ExitCode.USAGE)
    bare = isinstance(error, click.exceptions.NoArgsIsHelpError)
    message = "No command was given." if bare else error.format_message()
    output.record("error", message=message, hint="See --help.", exit_code=code)
    error.show()
    return code


def _unexpected(error: Exception) -> int:
    known = explain_system_error(error) if isinstance(error, OSError) else None
    if known is not None:
        print_error(known.message, known.hint, int(known.exit_code))
        return int(known.exit_code)
    print_error(
        f"Something that archiver did not expect: {type(error).__name__}: {error}",
        "Nothing half-done was published. Set ARCHIVER_DEBUG=1 to see where, and report it.",
        int(ExitCode.FAILURE),
    )
    return int(ExitCode.FAILURE)
