"""Reading keys and signatures: only what is whole and exact, whatever the bytes."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive.signing.keys import SecretKey, parse_secret_key, scrypt_cost
from archiver.archive.signing.minisign import parse_public_key, parse_signature
from archiver.errors import ArchiverError, DamageError, UsageError

KEY = SecretKey("0123456789abcdef", bytes(range(32)))
SIGNED = b"some bytes to sign"
FILE = KEY.signature(SIGNED, "what it is")


def accepts(data: bytes, signed: bytes = SIGNED) -> bool:
    try:
        parse_signature(data).verify(KEY.public, signed)
    except DamageError:
        return False
    return True


def test_a_signature_holds():
    assert accepts(FILE)
    assert parse_signature(FILE).remark == "what it is"
    assert not accepts(FILE, SIGNED + b"!")


@given(
    st.binary(max_size=300),
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=80),
)
def test_any_bytes_and_any_comment(signed, comment):
    data = KEY.signature(signed, comment)
    result = parse_signature(data)
    result.verify(KEY.public, signed)
    assert result.comment == comment.encode()


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_no_byte_of_what_is_covered_can_change(at, change):
    covered = FILE.index(b"\n") + 1
    data = bytearray(FILE)
    data[at] ^= change
    comment = 19 <= at < covered - 1 and data[at] != ord("\n")
    end = at == len(FILE) - 1 and data[at] == ord("\r")  # a line may end as it does elsewhere
    assert accepts(bytes(data)) == (comment or end)


@given(st.integers(0, len(FILE) - 2))
def test_no_part_of_it_will_do(size):
    assert not accepts(FILE[:size])


@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([*FILE.split(b"\n"), b"", b"x"])).map(b"\n".join)
)
def test_other_bytes_are_refused_in_words(data):
    for parse in (parse_signature, parse_secret_key):
        # Whatever it raises must be a domain error; hypothesis shows any other.
        with contextlib.suppress(ArchiverError):
            parse(data)
    with pytest.raises(UsageError, match="not a public key"):
        parse_public_key(data.decode("latin1"))


def test_swapped_lines_are_refused():
    other = KEY.signature(b"other", "other comment")
    mine, theirs = FILE.split(b"\n"), other.split(b"\n")
    for at in (1, 2, 3):
        mixed = [*mine]
        mixed[at] = theirs[at]
        assert not accepts(b"\n".join(mixed))


def test_a_key_of_the_same_id_is_another_key():
    twin = SecretKey(KEY.id, bytes(32))
    assert not accepts(twin.signature(SIGNED, "what it is"))


def test_base64_has_one_spelling():
    rows = FILE.split(b"\n")
    # The last digit before the padding carries bits that decoders pass over.
    last = rows[1][-2:-1]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(last) + 1 :][:1]
    spelled = rows[1][:-2] + other + b"="
    assert base64.b64decode(spelled) == base64.b64decode(rows[1])
    assert not accepts(b"\n".join([rows[0], spelled, *rows[2:]]))


def test_too_much_is_not_read():
    with pytest.raises(DamageError, match="too large"):
        parse_signature(b"untrusted comment: " + b"x" * 20_000 + FILE[19:])


def test_public_keys_in_every_form():
    for text in (KEY.public.text, f" {KEY.public.text}\n", KEY.public.file().decode()):
        assert parse_public_key(text) == KEY.public
    assert KEY.public.text.startswith("RW")
    with pytest.raises(UsageError, match="not a public key"):
        parse_public_key(KEY.public.text[:-1])


def test_a_damaged_secret_key_is_not_used():
    head, body, _ = KEY.file().split(b"\n")
    raw = bytearray(base64.b64decode(body))
    for at in (54, 62, 94):  # id, seed, public key
        bad = bytearray(raw)
        bad[at] ^= 1
        locked = parse_secret_key(head + b"\n" + base64.b64encode(bad) + b"\n")
        if at == 54:
            assert locked.unlock().id != KEY.id
        else:
            with pytest.raises(UsageError, match="damaged"):
                locked.unlock()


def test_a_password_masks_everything():
    locked = parse_secret_key(KEY.file("pass wörd"))
    assert locked.needs_password
    assert locked.unlock("pass wörd") == KEY
    with pytest.raises(UsageError, match="password"):
        locked.unlock("pass word")


# Worked out with libsodium's pickparams.
@pytest.mark.parametrize(
    ("operations", "memory", "cost"),
    [
        (1 << 25, 1 << 30, (1 << 20, 8, 1)),
        (1 << 19, 1 << 24, (1 << 14, 8, 1)),
        (1 << 22, 1 << 27, (1 << 17, 8, 1)),
        (1 << 25, 1 << 25, (1 << 15, 8, 32)),
        (0, 1 << 30, (1 << 10, 8, 1)),
    ],
)
def test_limits_become_the_parameters_that_libsodium_picks(operations, memory, cost):
    assert scrypt_cost(operations, memory) == cost


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_no_key_file_can_ask_for_more_than_a_machine_has(operations, memory):
    try:
        cost = scrypt_cost(operations, memory)
    except UsageError:
        return
    assert cost.memory <= (1 << 30) + (1 << 20)
    assert cost.n * cost.p * cost.r * 4 <= 1 << 28
