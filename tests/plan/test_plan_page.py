"""The page on plans: its plan is one, it runs, and every key of it is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archiver.loopback.hub import Hub
from archiver.plan.reader import find_plan, parse_plan
from archiver.plan.table import Table

PAGE = (Path(__file__).parents[2] / "docs" / "plans.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(EXAMPLE)
    return path


def test_the_plan_of_the_page_runs(run, plan, tmp_path, monkeypatch):
    archive = tmp_path / "weights"
    run("init", "-q", "-C", archive)
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for name in ("Qwen/Qwen3.5-0.8B", "Qwen/Qwen3.5-4B", "datasets/Qwen/Rows"):
            hub.create(name, {"config.json": b"{}", "model.safetensors": name.encode() * 99})
        hub.tag("Qwen/Qwen3.5-4B", "v1")
        hub.collection("Qwen/qwen35", ["Qwen/Qwen3.5-0.8B", "datasets/Qwen/Rows"])
        result = run("sync", "--json", "-C", archive, plan, "--now", "--min-free", "0B")
    assert result.code == 0, result
    assert [each["repository"] for each in result.kinds("mirror")] == [
        "Qwen/Qwen3.5-0.8B",
        "Qwen/Qwen3.5-4B",
        "Qwen/Qwen3.5-4B",
        "datasets/Qwen/Rows",
    ]


def test_the_plan_of_the_page_says_all_that_a_plan_can_say_at_its_top(plan):
    whole = find_plan(str(plan))
    assert whole.window
    assert whole.budget.bytes
    assert whole.budget.seconds
    assert whole.max_rate
    assert whole.min_free
    assert whole.night.audit


def test_every_key_is_on_the_page(monkeypatch):
    known: set[str] = set()

    close = Table.close

    def noting(table):
        known.update(table._known)
        close(table)

    monkeypatch.setattr(Table, "close", noting)
    parse_plan(EXAMPLE.encode(), "plan.toml")
    assert len(known) > 30
    told = {word for pair in re.findall(r"`(\w+)`|\[\[?(\w+)\]", PAGE) for word in pair}
    assert known <= told, known - told


def test_the_problems_of_the_page_are_those_that_are_told(run, tmp_path, monkeypatch):
    block = re.search(r"```text\narchiver: plan\.toml(.*?)```", PAGE, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(
        '[plan]\nname = "p"\ntimezone = "Europe/Berlon"\nwindow = "01:00-06:00"\n[[repository]]\n'
        'name = "Qwen/Qwen3.5-4B"\nrevison = "main"\neffort = "slow"\n'
    )
    run("init", "-q", "-C", tmp_path / "weights")
    result = run("plan", "check", "-C", tmp_path / "weights", "plan.toml")
    assert result.code == 2
    assert result.err.strip() == block.removeprefix("```text\n").removesuffix("```").strip()
