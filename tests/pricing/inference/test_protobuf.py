"""What the reader of protobuf reads is what protobuf has written; what that never writes is refused."""

from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto

from pricing.errors import ModelError
from pricing.inference.protobuf import BROKEN, floats, integers

INTS, FLOATS = 0x40, 0x3D  # keys in AttributeProto
INT64: Final = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INT64))
def test_integers_are_read_as_they_were_written(values: list[int]) -> None:
    written = AttributeProto(ints=values).SerializeToString()

    assert integers(memoryview(written), INTS).tolist() == values


@pytest.mark.parametrize("first", [1, 2**7, 2**14, 2**21, -1])
def test_a_long_list_is_read_whole_wherever_it_is_cut(first: int) -> None:
    values = [first, *range(50_000), 64, 2**40, 64, *range(50_000)]  # 64 is written as its key is

    assert integers(memoryview(AttributeProto(ints=values).SerializeToString()), INTS).tolist() == values


@given(st.binary(max_size=30), st.integers(0, 255))
def test_of_any_bytes_nothing_but_a_refusal_comes(content: bytes, key: int) -> None:
    with suppress(ModelError):
        integers(memoryview(content), key)
    with suppress(ModelError):
        floats(memoryview(content), key)


@pytest.mark.parametrize(
    "content",
    [
        b"\x40",  # no number
        b"\x40\x80",  # a number without an end
        b"\x40\x01\x40",  # the second number is missing
        b"\x80\x40\x01",  # something before the key
        b"\x80\x40\x40\x01",  # the same, and what follows looks like a list
        b"\x40\x01\x80\x40\x01",  # something between two
        b"\x40\x01\x41\x01",  # another key
        b"\x40" + b"\x80" * 10 + b"\x01",  # a longer number than there are
        b"\x40" + b"\x80" * 100_000,
    ],
)
def test_what_is_no_list_of_integers_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=BROKEN):
        integers(memoryview(content), INTS)


@given(st.lists(st.floats(width=32)))
def test_floats_are_read_as_they_were_written(values: list[float]) -> None:
    written = AttributeProto(floats=values).SerializeToString()

    assert list(map(str, floats(memoryview(written), FLOATS).tolist())) == list(map(str, values))
