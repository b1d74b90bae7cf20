"""What ModelScope's JSON may hold, and what is made of it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import (
    AccessError,
    ArchiverError,
    HostileNameError,
    MismatchError,
    NetworkError,
    RenamedError,
    UpstreamGoneError,
    UsageError,
)
from archiver.upstream.http import Subject
from archiver.upstream.modelscope.client import ModelScope
from archiver.upstream.modelscope.http import chosen_endpoint
from archiver.upstream.modelscope.listing import (
    FileItem,
    Info,
    id_of,
    licence_of,
    parse_files,
    parse_history,
    parse_info,
    pin,
    remote_file,
    require_commit,
    spelling_of,
)

COMMIT, OTHER = "1" * 40, "2" * 40
SUBJECT = Subject("modelscope:a/b", COMMIT, endpoint="http://x", variable="MODELSCOPE_ENDPOINT")
DIGEST = "a" * 64
KEYS = (
    *(
        "Code",
        "Success",
        "Message",
        "Data",
        "Files",
        "Commit",
        "Id",
        "Path",
        "Name",
        "Type",
        "Size",
    ),
    *("Sha256", "LatestCommitter", "ShortId", "License", "CommittedDate", "IsLFS"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


def enveloped(data, **more):
    return json.dumps({"Code": 200, "Success": True, "Data": data, **more}).encode()


@given(JSON)
def test_whatever_is_sent_becomes_a_value_or_a_sentence(document):
    for body in (json.dumps(document).encode(), enveloped(document)):
        for read in (_info, _history, _files):
            with suppress(ArchiverError):
                read(body)


@given(st.binary(max_size=60))
def test_what_is_no_json_is_told(body):
    with pytest.raises(ArchiverError):
        parse_files(b"\xff" + body, SUBJECT)


def _info(body):
    info = parse_info(body, SUBJECT)
    assert len(id_of(info)) <= 20
    assert isinstance(licence_of(info), str)
    spelling_of(info, SUBJECT)


def _history(body):
    pinned = pin(parse_history(body, SUBJECT), SUBJECT)
    assert pinned is None or pinned.commit == COMMIT


def _files(body):
    page = parse_files(body, SUBJECT)
    require_commit(page, SUBJECT)
    for item in page.files or []:
        file = remote_file(item, SUBJECT)
        assert file.size >= 0
        assert len(file.sha256) == 64


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        ({"Code": 404, "Success": False, "Message": "no such model"}, UpstreamGoneError),
        ({"Code": "404", "Success": False}, UpstreamGoneError),
        ({"Code": 10010205001, "Success": False, "Message": "\u6a21\u578b"}, AccessError),
        ({"Code": 403, "Success": False}, AccessError),
        ({"Success": False}, AccessError),
        ({"Code": 200, "Data": 5}, HostileNameError),
        ([], HostileNameError),
    ],
)
def test_what_an_envelope_means(envelope, error):
    with pytest.raises(error):
        parse_info(json.dumps(envelope).encode(), SUBJECT)


def test_half_a_character_in_a_message_harms_nothing_and_in_a_path_everything():
    message = b'{"Code": 200, "Data": {"Commit": [{"Id": "%s", "Title": "\\ud800"}]}}'
    assert pin(parse_history(message % COMMIT.encode(), SUBJECT), SUBJECT).commit == COMMIT
    with pytest.raises(HostileNameError):
        parse_files(b'{"Code": 200, "Data": {"Files": [{"Path": "\\ud800"}]}}', SUBJECT)


def test_another_commit_than_the_one_asked_for_is_refused():
    with pytest.raises(MismatchError, match="answered about commit"):
        pin(parse_history(enveloped({"Commit": [{"Id": OTHER}]}), SUBJECT), SUBJECT)
    with pytest.raises(HostileNameError):
        pin(parse_history(enveloped({"Commit": [{"Id": "short"}]}), SUBJECT), SUBJECT)
    for latest in ({"Id": OTHER}, {"Id": "", "ShortId": "22222222"}):
        with pytest.raises(MismatchError, match="listed commit"):
            require_commit(parse_files(enveloped({"LatestCommitter": latest}), SUBJECT), SUBJECT)
    for latest in (None, {}, {"Id": ""}, {"Id": COMMIT}, {"Id": "", "ShortId": "11111111"}):
        require_commit(parse_files(enveloped({"LatestCommitter": latest}), SUBJECT), SUBJECT)


def test_a_time_and_a_size():
    entry = {"Id": COMMIT, "CommittedDate": 1_726_842_501}
    history = parse_history(enveloped({"Commit": [entry]}), SUBJECT)
    assert pin(history, SUBJECT).committed == "2024-09-20T14:28:21Z"
    for odd in (-1, 1e300, "yesterday", None, True):
        entry = {"Id": COMMIT, "CommittedDate": odd}
        assert pin(parse_history(enveloped({"Commit": [entry]}), SUBJECT), SUBJECT).committed == ""
    assert remote_file(FileItem("a", "blob", 3, DIGEST.upper()), SUBJECT).sha256 == DIGEST
    with pytest.raises(MismatchError, match="without a size"):
        remote_file(FileItem("a", "blob", 0, DIGEST), SUBJECT)


def test_names_and_ids():
    def told(**fields):
        return parse_info(
            enveloped({name.title(): value for name, value in fields.items()}), SUBJECT
        )

    assert spelling_of(Info(), SUBJECT) == "modelscope:a/b"
    assert spelling_of(Info(path="A", name="B"), SUBJECT) == "modelscope:A/B"
    with pytest.raises(RenamedError):
        spelling_of(Info(path="a", name="c"), SUBJECT)
    with pytest.raises(HostileNameError):
        spelling_of(Info(path="..", name="c"), SUBJECT)
    assert [id_of(told(id=number)) for number in (7, "7", 0, -1, True, "x", 2**80, None, [])] == [
        *("7", "7"),
        *[""] * 7,
    ]
    assert licence_of(told(license=["mit"])) == ""
    assert licence_of(told(license="mit")) == "mit"
    assert licence_of(told(license="x" * 2000)) == ""


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, "https://modelscope.cn"),
        ({"MODELSCOPE_ENDPOINT": "https://www.modelscope.ai/"}, "https://www.modelscope.ai"),
        ({"MODELSCOPE_ENDPOINT": "modelscope.ai"}, "https://modelscope.ai"),
        ({"MODELSCOPE_DOMAIN": "www.modelscope.ai"}, "https://www.modelscope.ai"),
        ({"MODELSCOPE_ENDPOINT": "http://a", "MODELSCOPE_DOMAIN": "b"}, "http://a"),
    ],
)
def test_the_endpoint(monkeypatch, environment, endpoint):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert chosen_endpoint() == endpoint


@pytest.mark.parametrize("endpoint", ["ftp://x", "https://u:p@x", "https://", "https://x?y=1"])
def test_an_endpoint_that_is_none(endpoint):
    with pytest.raises(UsageError):
        chosen_endpoint(endpoint)


@pytest.mark.parametrize("name", ["Org/Name", "modelscope:Name", "folder:Org/Name"])
def test_a_name_of_another_hub(name):
    with pytest.raises(UsageError, match="no model or dataset of ModelScope"):
        ModelScope(endpoint="http://127.0.0.1:9").list(name)


def test_a_token_that_is_none():
    with pytest.raises(UsageError, match="no token has"):
        ModelScope("a\nb", "http://127.0.0.1:9").list("modelscope:a/b")


def test_nobody_there(monkeypatch):
    from archiver.upstream.retry import RetryPolicy

    upstream = ModelScope(endpoint="http://127.0.0.1:9", retry=RetryPolicy(sleep=lambda _: None))
    with pytest.raises(NetworkError):
        upstream.list("modelscope:a/b")
