"""An archive of a few repositories with a history."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from kit.cli import invoke
from kit.repository import model, noise

from archiver.loopback.hub import Hub

if TYPE_CHECKING:
    from pathlib import Path

MODEL, DATASET, PART = "org/model", "org/data", "org/part"
LARGE = "large.safetensors"
CARD = {"license": "mit", "tags": ["tiny"], "language": "en"}


PLAN = """
[plan]
name = "tiny"

[[repository]]
name = "org/large"

[[repository]]
name = "org/model"
"""


class History(NamedTuple):
    """What was mirrored: commit -> path -> bytes, and names for commits."""

    archive: Path
    model: dict[str, dict[str, bytes]]
    commits: list[str]
    data: dict[str, bytes]

    def __repr__(self) -> str:
        return "History"


def large() -> dict[str, bytes]:
    """A repository of one file that has several segments."""
    return {"config.json": b"{}", LARGE: noise(5, 40 << 20)}


def build(folder: Path) -> History:
    """Mirror a model three times, a dataset, and a part of a repository."""
    archive = folder / "archive"
    before = os.environ.get("HF_ENDPOINT")
    with Hub() as hub:
        os.environ["HF_ENDPOINT"] = hub.endpoint
        try:
            assert invoke("init", "-q", "-C", archive) == 0

            def mirror(*words: object) -> None:
                assert invoke("mirror", "-q", "-C", archive, "--min-free", "0B", *words) == 0

            history: dict[str, dict[str, bytes]] = {}
            for seed in range(3):
                files = model(seed) | {f"only-{seed}.txt": b"x" * seed}
                if seed == 0:
                    told = hub.create(MODEL, files, card=CARD)
                    history[told] = files
                else:
                    told = hub.commit(MODEL, files)
                    history[told] = {**history[list(history)[-1]], **files}
                if seed == 0:
                    hub.tag(MODEL, "v1.0", told)
                    mirror(MODEL)
                    mirror(f"{MODEL}@v1.0")
                elif seed == 1:
                    hub.branch(MODEL, "dev", told)
                    mirror(f"{MODEL}@dev")
                else:
                    mirror(MODEL)
            assert invoke("watch", "-q", "-C", archive, MODEL) == 0
            data = {"README.md": b"# Data\n", "data/train.jsonl": b'{"text": "a"}\n{"text": "b"}\n'}
            hub.create(f"datasets/{DATASET}", data)
            mirror(f"datasets/{DATASET}")
            hub.create(PART, model(9))
            mirror(PART, "--include", "config.json")
            mirror(PART, "--include", "tokenizer.json")
            hub.create("org/large", large())
            mirror("org/large")
            plan = folder / "tiny.toml"
            plan.write_text(PLAN)
            assert invoke("sync", "-q", "-C", archive, plan, "--min-free", "0B") == 0
        finally:
            if before is None:
                os.environ.pop("HF_ENDPOINT")
            else:
                os.environ["HF_ENDPOINT"] = before
    return History(archive, history, list(history), data)
