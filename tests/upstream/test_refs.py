"""Branches and tags as git lists them: read exactly, bounded, and refused where they are none."""

from __future__ import annotations

import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive.watch import BRANCHES_MAX, TAGS_MAX
from archiver.errors import HostileNameError
from archiver.loopback.modelscope import commit_id
from archiver.upstream.http import Subject
from archiver.upstream.refs import parse_advertisement, refs_of

SUBJECT = Subject("modelscope:a/b", endpoint="http://x", variable="MODELSCOPE_ENDPOINT")
ONE, TWO, TAG = "1" * 40, "2" * 40, "f" * 40


def line(text: bytes | str) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return b"%04x%s" % (len(data) + 4, data)


def listed(*lines: bytes | str) -> bytes:
    first = line("# service=git-upload-pack\n") + b"0000"
    return first + b"".join(map(line, lines)) + b"0000"


def read(body: bytes):
    return parse_advertisement(body, SUBJECT, "master")


def test_branches_and_tags_with_the_commits_of_tags_that_are_objects():
    refs = read(
        listed(
            f"{ONE} HEAD\x00multi_ack side-band-64k\n",
            f"{ONE} refs/heads/master\n",
            f"{TWO} refs/heads/release/1.0\n",
            f"{TWO} refs/merge-requests/1/head\n",
            f"{TAG} refs/tags/v1\n",
            f"{ONE} refs/tags/v1^{{}}\n",
            f"{TWO} refs/tags/light",
        )
    )
    assert refs.branches == {"master": ONE, "release/1.0": TWO}
    assert refs.tags == {"v1": ONE, "light": TWO}
    assert refs.complete
    assert (refs.find("v1"), refs.find("master"), refs.find("none")) == (ONE, ONE, "")


def test_a_repository_without_a_commit():
    assert read(listed(f"{'0' * 40} capabilities^{{}}\x00agent=git\n")) == ({}, {}, True)


@pytest.mark.parametrize(
    "name", ["a b", "a~1", "a^", "a:b", "a\\b", "a\x7f", "x" * 201, "", "a\x1b[31m"]
)
def test_what_git_allows_to_no_branch_is_left_out(name):
    refs = read(listed(f"{ONE} refs/heads/master\n", f"{TWO} refs/heads/{name}\n"))
    assert refs.branches == {"master": ONE}


@pytest.mark.parametrize("oid", ["1" * 64, "g" * 40, "", "1" * 39])
def test_what_is_no_commit_is_left_out(oid):
    assert read(listed(f"{oid} refs/heads/master\n")).branches == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"0000",
        b'{"Code": 200}',
        line("# service=git-receive-pack\n") + b"0000",
        line("version 2\n") + b"0000",
        listed("no-space"),
        listed(f"{ONE} refs/heads/master\n")[:-10],
        listed() + b"0001",
        listed() + b"0003",
        listed() + b"0004",
        listed() + b"ffff",
        listed() + b"-001",
        listed() + b"00",
    ],
    ids=range(14),
)
def test_what_is_no_such_list_is_refused(body):
    with pytest.raises(HostileNameError, match="no list of the branches"):
        read(body)


@given(st.binary(max_size=200))
def test_whatever_is_sent_becomes_refs_or_a_sentence(data):
    for body in (data, listed(data), listed() + data):
        with suppress(HostileNameError):
            refs = read(body)
            assert all(len(commit) == 40 for commit in (refs.branches | refs.tags).values())


def test_more_than_are_looked_at_are_no_complete_list():
    branches = [(f"b{number:05}", ONE) for number in range(BRANCHES_MAX)] + [("master", TWO)]
    tags = [(f"t{number:05}", ONE) for number in range(TAGS_MAX + 1)]
    refs = refs_of(branches, tags, "master")
    assert (len(refs.branches), len(refs.tags), refs.complete) == (BRANCHES_MAX, TAGS_MAX, False)
    assert refs.branches["master"] == TWO


@pytest.mark.parametrize("form", ["models/Org/Model", "Org/Model"])
def test_git_itself_reads_what_the_loopback_lists(modelscope, tmp_path, form):
    modelscope.create("Org/Model", {"a": b"1"})
    modelscope.tag("Org/Model", "v1")
    first = commit_id(modelscope.repository("Org/Model").head())
    modelscope.commit("Org/Model", {"a": b"2"})
    newest = commit_id(modelscope.repository("Org/Model").head())
    done = subprocess.run(
        ["git", "ls-remote", f"{modelscope.endpoint}/{form}.git"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0"},
    )
    seen = {name: oid for oid, name in (row.split("\t") for row in done.stdout.splitlines())}
    assert seen["HEAD"] == seen["refs/heads/master"] == newest
    assert seen["refs/tags/v1^{}"] == first
