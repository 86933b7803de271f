"""A body with a content coding comes back as it was, and costs no more than its limit, whatever it says it is."""

import gzip
import tracemalloc
import zlib
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BodyTooLargeError, NotDecodableError, UnknownCodingError
from service.predictions.decoding import AS_GZIP, AS_NOTHING, AS_ZLIB, MAX_MEMBERS, decoded

MOST: Final = 1_000
NAMES: Final = {AS_GZIP: "gzip", AS_ZLIB: "deflate", AS_NOTHING: "deflate"}
MEBIBYTE: Final = 1 << 20


def coded(body: bytes, around: int, level: int = 9) -> bytes:
    encoder = zlib.compressobj(level, wbits=around)
    return encoder.compress(body) + encoder.flush()


@given(body=st.binary(max_size=MOST), around=st.sampled_from(list(NAMES)), level=st.integers(0, 9))
def test_what_was_coded_comes_back(body: bytes, around: int, level: int) -> None:
    assert decoded(coded(body, around, level), NAMES[around], MOST) == body


@given(body=st.binary(max_size=MOST), around=st.sampled_from(list(NAMES)), cut=st.integers(1, 2_000))
def test_a_part_is_never_taken_for_the_whole(body: bytes, around: int, cut: int) -> None:
    with pytest.raises(NotDecodableError):
        decoded(coded(body, around)[:-cut], NAMES[around], MOST)


@given(body=st.binary(max_size=100), name=st.sampled_from(["gzip", "deflate", "x-gzip"]))
def test_what_is_not_coded_is_refused_or_is_small(body: bytes, name: str) -> None:
    with suppress(NotDecodableError, BodyTooLargeError):
        assert len(decoded(body, name, MOST)) <= MOST


@pytest.mark.parametrize("around", NAMES)
def test_the_limit_is_exact(around: int) -> None:
    assert len(decoded(coded(bytes(MOST), around), NAMES[around], MOST)) == MOST
    with pytest.raises(BodyTooLargeError):
        decoded(coded(bytes(MOST + 1), around), NAMES[around], MOST)


def test_all_members_together_have_one_limit() -> None:
    half = gzip.compress(bytes(MOST // 2))

    assert len(decoded(half + half, "gzip", MOST)) == MOST
    with pytest.raises(BodyTooLargeError):
        decoded(half + half + gzip.compress(b"x"), "gzip", MOST)


def test_members_are_counted() -> None:
    member = gzip.compress(b"x")

    assert decoded(member * MAX_MEMBERS, "gzip", MOST) == b"x" * MAX_MEMBERS
    with pytest.raises(NotDecodableError, match="more than 100 members"):
        decoded(member * (MAX_MEMBERS + 1), "gzip", MOST)


def test_a_bomb_takes_no_more_memory_than_its_limit() -> None:
    bomb = gzip.compress(bytes(200 * MEBIBYTE))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            decoded(bomb, "gzip", MEBIBYTE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * MEBIBYTE


@pytest.mark.parametrize("name", ["", " ", ",", "identity", "Identity, identity"])
def test_no_coding_leaves_a_body_as_it_is(name: str) -> None:
    assert decoded(b"body", name, MOST) == b"body"


@pytest.mark.parametrize(
    "name", ["br", "zstd", "compress", "gzip;q=1", "gzip gzip", "gzip, gzip", "deflate, gzip", "*"]
)
def test_another_coding_is_refused_with_those_that_are_accepted(name: str) -> None:
    with pytest.raises(UnknownCodingError, match="one of gzip, deflate and identity") as caught:
        decoded(gzip.compress(b"body"), name, MOST)
    assert caught.value.headers == (("Accept-Encoding", "gzip, deflate, identity"),)
