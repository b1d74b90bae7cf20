"""Where ``archiver`` and ``python -m archiver`` begin.

Nothing is imported before an interruption can be told as one.
"""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the tool and exit with its code; Ctrl-C is no error of it, however early it comes."""
    try:
        from archiver.cli.main import run  # noqa: PLC0415 - Ctrl-C may come while this is loaded

        run()
    except KeyboardInterrupt:
        sys.stderr.write("archiver: Interrupted.\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
