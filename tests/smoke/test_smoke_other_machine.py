"""A golden record holds on another machine, and for no other model.

Another machine is made of what changes the order of sums here: other instructions, more threads; and
of a router that leans the other way where two experts score alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import smokecli
from kit.zygote import Zygote
from levelkit import TO_GOLDEN, climb, stream
from spoil import TEXT, spoilt, swap_experts

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    import smokekit
    from spoil import Weights

    from archiver.smoke.golden.record import Golden


def test_a_record_holds_elsewhere_and_for_no_other_model(
    smoke: smokecli.Command,
    models: smokekit.Models,
    copy_of: smokekit.Copies,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    sound, record = models("moe"), tmp_path / "golden.json"
    assert smoke("smoke-test", sound, "--record", "--golden", record).code == 0
    changed = copy_of("moe")
    with spoilt(changed) as weights:
        swap_experts(weights)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    with Zygote(smoke=True, OMP_NUM_THREADS="2") as started:
        elsewhere = smokecli.Command(started)
        same = elsewhere.json("smoke-test", sound, "--golden", record)
        other = elsewhere.json("smoke-test", changed, "--golden", record)
    assert same.whole["environment"]["cpu_capability"] == "DEFAULT"
    assert (same.code, same.verdicts["golden"]) == (0, "held")
    assert other.code == 25
    assert [level for level, one in other.verdicts.items() if one != "held"] == ["golden"]


def _lean(weights: Weights, number: int, towards: float) -> None:
    """Make two experts of a router score alike, but for ``towards`` times one of their inputs."""
    name = f"{TEXT}.{number}.mlp.gate.weight"
    stored = weights[name]
    rows = (np.frombuffer(stored.data, "<u2").astype("<u4") << 16).view("<f4")
    rows = rows.reshape(stored.shape).copy()
    rows[1] = rows[0]
    rows[:2, 0] = 0.0, towards
    data = (rows.view("<u4") >> 16).astype("<u2").tobytes()
    weights[name] = stored._replace(data=data)


def _leaning(folder: Path, towards: float) -> Path:
    with spoilt(folder) as weights:
        for number in range(4):
            _lean(weights, number, towards)
    return folder


def _recorded(folder: Path) -> Golden:
    golden = climb(folder, TO_GOLDEN, record=True).session.recorded
    assert golden is not None
    return golden


def test_an_expert_that_is_chosen_by_a_hair_is_chosen_as_recorded(
    copy_of: smokekit.Copies, monkeypatch: pytest.MonkeyPatch
):
    folder = copy_of("moe")
    golden = _recorded(_leaning(folder, 1e-6))
    _leaning(folder, -1e-6)
    done = climb(folder, TO_GOLDEN, golden=golden)
    assert done.report.held, done.report
    assert done["golden"].facts["text"]["settled"] > 0
    assert "of experts that rounding tips, as recorded" in " ".join(done["golden"].proved)
    bare = tuple(msgspec.structs.replace(one, ties=()) for one in golden.inputs)
    done = climb(folder, TO_GOLDEN, golden=msgspec.structs.replace(golden, inputs=bare))
    assert not done.report.held  # else the ties of the record were of no use
    stream(monkeypatch)
    done = climb(folder, TO_GOLDEN, golden=golden)
    assert done.report.held, done.report
    assert done.session.model.mode == "streamed"


def test_a_router_that_is_another_one_is_found_all_the_same(copy_of: smokekit.Copies):
    folder = copy_of("moe")
    golden = _recorded(_leaning(folder, 1e-6))
    with spoilt(folder) as weights:
        stored = weights[f"{TEXT}.1.mlp.gate.weight"]
        rows = np.frombuffer(stored.data, "<u2").reshape(stored.shape)[[0, 3, 2, 1, 4, 5, 6, 7]]
        weights[f"{TEXT}.1.mlp.gate.weight"] = stored._replace(data=rows.tobytes())
    assert {one.code for one in climb(folder, TO_GOLDEN, golden=golden).wrong} == {"model-golden"}
