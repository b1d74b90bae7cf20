"""A transformers whose inner functions are not known: its public API runs what fits in memory."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from levelkit import climb

from archiver.smoke import libraries

if TYPE_CHECKING:
    import smokekit

INNER = ("conversion", "recipe", "skeleton", "quantizers", "streamed", "notes")
LEVELS = ("structure", "tokenizer", "load", "forward", "generate")


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a later transformers were installed, and none of our modules knew its inner functions."""
    libraries.require("torch", "transformers", "accelerate")
    import transformers

    monkeypatch.setattr(transformers, "__version__", "5.31.0.dev0")


@pytest.mark.parametrize("name", ["dense", "moe", "dense-fp8", "gptq", "minilm"])
def test_it_gives_the_numbers_that_the_inner_functions_give(
    models: smokekit.Models,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    name: str,
):
    known = climb(models(name), LEVELS)
    request.getfixturevalue("newer")
    for module in INNER[:-1]:
        monkeypatch.setitem(sys.modules, f"archiver.smoke.loading.{module}", None)
    other = climb(models(name), LEVELS)
    assert other.report.held, other.report
    assert other.verdicts == known.verdicts
    for theirs, own in zip(
        other.session.outcome.answers, known.session.outcome.answers, strict=True
    ):
        assert (theirs.name, theirs.ids, theirs.shape) == (own.name, own.ids, own.shape)
        assert np.array_equal(theirs.tail, own.tail)
    assert other["generate"].facts == known["generate"].facts
    assert (known["load"].facts["loader"], other["load"].facts["loader"]) == ("inner", "public")
    assert known["load"].facts["parameters"] == other["load"].facts["parameters"]
    assert "by the public API of transformers 5.31.0.dev0" in other["load"].proved[0]
    assert "public API" in " ".join(other.report.fit)
    remarks = [one for one in other["structure"].findings if one.code == "model-not-tried"]
    assert any("none of the tested versions" in one.message for one in remarks)


@pytest.mark.usefixtures("newer")
def test_what_would_have_to_be_streamed_could_not_run(models: smokekit.Models):
    done = climb(models("dense"), ("structure", "load", "forward"), memory=1)
    assert (done["load"].verdict, done.report.exit_code) == ("skipped", 4)
    assert "to stream it takes another transformers than 5.31.0.dev0" in done["load"].reason
    assert "5.23" in done["load"].hint


@pytest.mark.usefixtures("newer")
def test_what_such_a_version_refuses_says_nothing_of_the_model(
    models: smokekit.Models, monkeypatch: pytest.MonkeyPatch
):
    import transformers

    def refuse(*_: object, **__: object) -> None:
        raise AttributeError("no such thing any more")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)
    done = climb(models("text"), ("load",))
    assert (done["load"].verdict, done.report.exit_code) == ("skipped", 4)
    assert "no such thing any more" in done["load"].reason


def test_the_tested_versions_are_those_that_the_extra_asks_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    (wanted,) = [
        one for one in project["project"]["optional-dependencies"]["smoke"] if "transformers" in one
    ]
    lowest, below = (".".join(map(str, version)) for version in libraries.TESTED)
    assert wanted == f"transformers>={lowest},<{below}"
    assert lowest in libraries.TESTED_HINT
