from __future__ import annotations

import base64
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive.records import canonical
from archiver.errors import DamageError, UsageError
from archiver.smoke.golden.compare import compare, distance, recorded_input
from archiver.smoke.golden.record import (
    RECORD_MAX,
    VERSION,
    Floats,
    Golden,
    packed,
    parse_golden,
    read_golden_file,
    unpacked,
)
from archiver.smoke.model import Answer

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(5)


def _answer(name: str, positions: int, width: int, *, hidden: bool = False) -> Answer:
    rows = 1 if hidden else min(16, positions)
    return Answer(
        name=name,
        ids=tuple(RANDOM.integers(0, width, positions).tolist()),
        decoder_ids=(),
        output="hidden" if hidden else "logits",
        shape=(positions, width),
        tail=RANDOM.standard_normal((rows, width), np.float32),
        nll=RANDOM.random(0 if hidden else positions - 1, np.float32),
        wrong=(),
        origin="",
        pixels="a" * 64 if name == "image" else "",
    )


def _golden(*answers: Answer) -> Golden:
    return Golden(
        version=VERSION,
        dtype="float32",
        attention="eager",
        output=answers[0].output,
        inputs=tuple(map(recorded_input, answers)),
        tokens=((1, 2, 3), (), (7,)),
        environment={"libraries": {"torch": "2.13.0"}, "threads": 2},
    )


SMALL = _golden(_answer("text", 5, 60), _answer("image", 18, 60))
PLAIN = json.loads(canonical(SMALL))


def _with(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(PLAIN))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def test_a_record_comes_back_from_its_json():
    assert parse_golden(PLAIN) == SMALL
    hidden = _golden(_answer("text", 5, 60, hidden=True), _answer("sentence-0", 3, 60, hidden=True))
    assert parse_golden(json.loads(canonical(hidden))) == hidden
    assert parse_golden(PLAIN | {"of_a_later_version": 1}) == SMALL


def test_the_largest_vocabulary_fits_into_an_event():
    golden = _golden(_answer("text", 48, 248_320), _answer("image", 160, 248_320))
    golden = msgspec.structs.replace(golden, tokens=(tuple(range(200_000, 200_300)),) * 30)
    size = len(canonical(golden))
    assert size < 450_000 < RECORD_MAX
    assert {one.stride for one in golden.inputs} == {8}
    assert len(unpacked(golden.inputs[0].last, 31_040)) == 31_040
    assert parse_golden(json.loads(canonical(golden))) == golden


def test_the_distance_from_nothing_is_the_absolute_one():
    none = np.zeros(4, np.float32)
    assert distance(none, none + 2) == 4.0


def test_a_sample_tells_the_same_distance_as_all_logits():
    answer = _answer("text", 20, 248_320)
    moved = answer.tail + np.float32(0.01) * RANDOM.standard_normal(answer.tail.shape, np.float32)
    found = Answer(**{**vars(answer), "tail": moved})
    whole = distance(answer.tail[-1], moved[-1])
    assert compare(recorded_input(answer), found).last == pytest.approx(whole, rel=0.05)


def test_rounding_holds_and_more_does_not():
    answer = _answer("text", 20, 60)
    recorded = recorded_input(answer)
    for factor, holds in ((1 + 1e-6, True), (1 + 9e-5, True), (1 + 3e-4, False)):
        found = Answer(**{**vars(answer), "tail": answer.tail * np.float32(factor)})
        assert compare(recorded, found).holds is holds
        found = Answer(**{**vars(answer), "nll": answer.nll * np.float32(factor)})
        assert compare(recorded, found).holds is holds


def test_only_a_clear_lead_must_stay():
    answer = _answer("text", 20, 60)
    tail = answer.tail.copy()
    first, second = np.argsort(-tail[0])[:2]
    for lead, moved in ((5e-4, 0), (5e-3, 1)):
        tail[0, first] = tail[0, second] + np.float32(lead)
        recorded = recorded_input(Answer(**{**vars(answer), "tail": tail}))
        turned = tail.copy()
        turned[0, [first, second]] = turned[0, [second, first]]
        result = compare(recorded, Answer(**{**vars(answer), "tail": turned}))
        assert (result.ranks, result.moved) == (15 + moved, moved)
        assert result.holds is (not moved)


def test_a_head_of_a_single_class_is_recorded():
    one = Answer(**{**vars(_answer("text", 1, 1)), "ids": (4, 5), "nll": np.zeros(0, np.float32)})
    golden = parse_golden(json.loads(canonical(_golden(one))))
    assert compare(golden.inputs[0], one).holds


NOT_FINITE = packed(np.array([1, np.nan, 3, 4], np.float32))
FAULTS = [
    (("version",), 2, "version 1"),
    (("version",), None, "version 1"),
    (("dtype",), "bfloat16", "dtype"),
    (("attention",), "sdpa", "attention"),
    (("output",), "hidden", "ranked positions"),
    (("inputs",), [], "length"),
    (("inputs", 1, "name"), "text", "two inputs have one name"),
    (("inputs", 0, "name"), "text\x1b[2J", "name"),
    (("inputs", 0, "ids"), [], "length"),
    (("inputs", 0, "ids"), [-1], ">= 0"),
    (("inputs", 0, "ids"), [1 << 40], "<= 2147483647"),
    (("inputs", 0, "ids"), [1.5], "int"),
    (("inputs", 0, "ids"), [1] * 5000, "length"),
    (("inputs", 0, "width"), 61, "floats are expected"),
    (("inputs", 0, "width"), 1 << 40, "width"),
    (("inputs", 0, "stride"), 2, "every 2th"),
    (("inputs", 0, "positions"), 6, "ranked positions"),
    (("inputs", 0, "positions"), 0, "positions"),
    (("inputs", 0, "last"), "no base64!", "not base64"),
    (("inputs", 0, "last"), "", "0 bytes where 60 floats"),
    (("inputs", 0, "nll"), NOT_FINITE, "finite"),
    (("inputs", 0, "nll"), "", "belong together"),
    (("inputs", 0, "nll"), packed(np.zeros(5, np.float32)), "20 bytes where 4 floats"),
    (("inputs", 0, "loss"), "nan", "loss"),
    (("inputs", 0, "ranked", 0, 0), [0] * 20, "different"),
    (("inputs", 0, "ranked", 0, 0), list(range(50, 70)), "below 60"),
    (("inputs", 0, "ranked", 0, 0), [], "different"),
    (("inputs", 0, "ranked", 0, 1), packed(np.zeros(3, np.float32)), "floats are expected"),
    (("inputs", 1, "pixels"), "A" * 64, "pixels"),
    (("inputs", 0, "ties"), [[0, 1]], "length"),
    (("inputs", 0, "ties"), [[0, 0, -1]], ">= 0"),
    (("inputs", 0, "ties"), [[0, 0, 1]] * 5000, "length"),
    (("tokens",), [[1]] * 300, "length"),
    (("environment",), {"cpu": "x" * RECORD_MAX}, "bytes, at most"),
    (("environment",), ["cpu"], "environment"),
]


@pytest.mark.parametrize(("path", "value", "said"), FAULTS)
def test_a_record_that_is_none_is_refused_with_a_reason(
    path: tuple[Any, ...], value: Any, said: str
):
    with pytest.raises(DamageError) as caught:
        parse_golden(_with(path, value), "The record of today")
    assert caught.value.message.startswith("The record of today ")
    assert said in caught.value.message
    assert caught.value.message.isprintable()
    assert "--record" in caught.value.hint


FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = [path] if path else []
    for key, one in inner:
        found += _places(one, (*path, key))
    return found


@given(st.sampled_from(_places(PLAIN)), JSON)
def test_whatever_stands_in_a_record_it_is_read_or_refused(path: tuple[Any, ...], value: Any):
    try:
        golden = parse_golden(_with(path, value))
    except DamageError:
        return
    assert parse_golden(json.loads(canonical(golden))) == golden


@given(JSON)
def test_whatever_is_given_it_is_read_or_refused(value: Any):
    with pytest.raises(DamageError):
        parse_golden(value)


def test_nesting_without_end_is_refused():
    deep: Any = {}
    for _ in range(sys.getrecursionlimit()):
        deep = {"a": deep}
    with pytest.raises(DamageError):
        parse_golden(_with(("environment",), {}) | {"environment": deep})


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=50))
def test_floats_come_back_to_the_bit(values: list[float]):
    given: Floats = np.array(values, np.float32)
    assert unpacked(packed(given), len(values)).tobytes() == given.tobytes()
    assert base64.b64decode(packed(given)) == given.astype("<f4").tobytes()


def test_a_file_that_is_none_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UsageError) as error:
            read_golden_file(path)
        assert str(path) in error.value.message
