"""Where ``archiver`` and ``python -m archiver`` begin.

Nothing is imported before an interruption is handled: Ctrl-C must not end in a traceback.
"""

import io
import os
import sys

_INTERRUPTED = 130
_REEXECUTED = "archiver-locale"


def main() -> None:
    """Run the tool and exit with its code; Ctrl-C is no error of it, however early it comes."""
    try:
        if sys.getfilesystemencoding() != "utf-8":
            _restart_in_utf8()
        if _REEXECUTED in sys._xoptions:  # noqa: SLF001 - documented, in spite of its name
            _print_in_the_locale()
        from archiver.cli.main import run  # noqa: PLC0415 - Ctrl-C may come while this is loaded

        run()
    except KeyboardInterrupt:
        sys.stderr.write("archiver: Interrupted.\n")
        sys.exit(_INTERRUPTED)


def _restart_in_utf8() -> None:
    """Run the same command where the names of files are UTF-8, as they are on the disk.

    Python takes them to be in the locale's encoding, and that can be chosen only when it starts. In
    ISO-8859-1 every name is text, so that wrong ones would be stored without a word.
    """
    # Also for the processes that this one starts.
    os.environ["PYTHONUTF8"] = "1"
    options = ["-X", "utf8", "-X", _REEXECUTED]
    os.execv(sys.executable, [sys.executable, *options, *sys.orig_argv[1:]])  # noqa: S606


def _print_in_the_locale() -> None:
    """Print in the encoding that the terminal has, though names of files are UTF-8."""
    import locale  # noqa: PLC0415 - seldom needed

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=locale.getencoding(), errors="backslashreplace")


if __name__ == "__main__":
    main()
