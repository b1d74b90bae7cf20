"""``python -m archiver`` is the same tool as ``archiver``."""

from archiver.cli.main import run

if __name__ == "__main__":
    run()
