"""The file of sales that a version keeps: what is in it, and what is refused, whatever its bytes are."""

from contextlib import suppress
from datetime import date

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.sales_file import MAX_SALES, UNKNOWN_CATEGORY, Head, KeptSales, parse_sales
from pricing.errors import DamagedArtifactError
from pricing.house import FEATURES
from tests.column_sales import Keeping

ROWS = 4


@pytest.fixture(scope="module")
def manifest(keeping: Keeping) -> Manifest:
    """One that knows a number and two categories, and says nothing of its sales."""
    return keeping.artifact.manifest.model_copy(update={"sales": None})


def few(rows: int = ROWS, *, dated: bool = True) -> KeptSales:
    return KeptSales(
        prices=np.linspace(1e5, 2e5, rows),
        days=np.arange(rows, 0, -1).astype(np.int32) if dated else None,
        fields=np.ones((5, rows), np.float32),
        numbers=np.full((1, rows), np.nan, np.float32),
        categories=np.full((2, rows), UNKNOWN_CATEGORY, np.uint16),
        leaves=np.arange(3 * rows).reshape(3, rows).astype(np.uint8),
    )


@pytest.mark.parametrize("dated", [True, False])
def test_what_is_written_is_read_again(manifest: Manifest, *, dated: bool) -> None:
    ours = few(dated=dated)

    found = parse_sales(ours.to_bytes(), manifest)

    for name, values in ours._asdict().items():
        read = getattr(found, name)
        assert (read is None) if values is None else (read.dtype == values.dtype and read.tobytes() == values.tobytes())


def test_the_arrays_are_views_of_the_bytes_and_nothing_lies_between_them(manifest: Manifest) -> None:
    data = few().to_bytes()
    found = parse_sales(data, manifest)
    start = data.index(b"\n") + 1

    assert start % 8 == 0
    assert data[start:] == b"".join(part.tobytes() for part in found if part is not None)
    assert not any(part.flags.owndata for part in found if part is not None)


def with_head(data: bytes, **changes: object) -> bytes:
    head, _, rest = data.partition(b"\n")
    line = orjson.dumps(orjson.loads(head) | changes)
    return line + b" " * (-(len(line) + 1) % 8) + b"\n" + rest


HEADS: dict[str, dict[str, object]] = {
    "no sale": {"rows": 0},
    "more than there may be": {"rows": MAX_SALES + 1},
    "so many that memory would not do": {"rows": 10**15},
    "a negative number": {"rows": -4},
    "another number": {"rows": 5},
    "half a sale": {"rows": 4.5},
    "no tree": {"trees": 0},
    "a million trees": {"trees": 10**6},
    "dates where there are none": {"dated": 2},
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_not_that_of_the_arrays_is_refused(manifest: Manifest, name: str) -> None:
    with pytest.raises(DamagedArtifactError, match=r"^sales\.bin: "):
        parse_sales(with_head(few().to_bytes(), **HEADS[name]), manifest)


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"x" * 2_000, b" " * 1_023 + b"\n", b"[1]    \n", b"\xff" * 8])
def test_what_has_no_head_is_refused(manifest: Manifest, data: bytes) -> None:
    with pytest.raises(DamagedArtifactError, match=r"^sales\.bin: "):
        parse_sales(data, manifest)


def test_a_byte_less_or_more_is_refused(manifest: Manifest) -> None:
    data = few().to_bytes()
    for other in (data[:-1], data + b"\0"):
        with pytest.raises(DamagedArtifactError) as refused:
            parse_sales(other, manifest)
        assert str(refused.value) == f"sales.bin: observed {len(other)} bytes, expected {len(data)} for 4 sales"


def changed(array: str, value: float, place: tuple[int, ...] = (0,)) -> KeptSales:
    sales = few()
    values = np.array(getattr(sales, array))
    values[place] = value
    return sales._replace(**{array: values})


BAD: dict[str, tuple[KeptSales, str]] = {
    "a price of nothing": (changed("prices", 0), "a price is not valid"),
    "a price below nothing": (changed("prices", -1), "a price is not valid"),
    "a price that is no number": (changed("prices", np.nan), "a price is not valid"),
    "an infinite price": (changed("prices", np.inf), "a price is not valid"),
    "a day before all days": (changed("days", -(2**31), (3,)), "a day of sale is not valid"),
    "a day after all days": (changed("days", 2**31 - 1), "a day of sale is not valid"),
    "the newest sale last": (changed("days", 9, (3,)), "the sales are not in order"),
    "half a bedroom": (changed("fields", 1.5, (1, 2)), "a value of bedrooms"),
    "no square foot": (changed("fields", 0, (0, 1)), "a value of square_feet"),
    "a field that is unknown": (changed("fields", np.nan, (4, 1)), "a value of distance_to_city"),
    "an infinite column": (changed("numbers", -np.inf, (0, 2)), "a value of a column is infinite"),
    "a category that is not there": (changed("categories", 3, (1, 2)), "a place in the categories of heating"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_value_that_training_never_writes_is_refused(manifest: Manifest, name: str) -> None:
    sales, reason = BAD[name]
    with pytest.raises(DamagedArtifactError) as refused:
        parse_sales(sales.to_bytes(), manifest)
    assert str(refused.value).startswith(f"sales.bin: {reason}")


@given(st.binary(max_size=200), st.integers(0, 200))
def test_whatever_the_bytes_are_nothing_else_is_raised(keeping: Keeping, noise: bytes, at: int) -> None:
    data = few().to_bytes()
    for other in (noise, data[:at] + noise + data[at + len(noise) :]):
        with suppress(DamagedArtifactError):
            parse_sales(other, keeping.artifact.manifest.model_copy(update={"sales": None}))


def test_a_file_holds_what_the_version_has_learned_from_and_nothing_else(keeping: Keeping) -> None:
    """Neither a cell of a column that the version does not know nor a row of the test side."""
    manifest, content = keeping.artifact.manifest, keeping.artifact.sales
    assert content is not None
    assert manifest.sales is not None
    head = Head.model_validate_json(content.partition(b"\n")[0])
    found = parse_sales(content, manifest)

    assert (head.rows, head.dated, head.trees) == (manifest.data.fit, True, len(found.leaves))
    assert len(found.fields) == len(FEATURES)
    assert [len(part) for part in (found.numbers, found.categories)] == [1, 2]  # `noise` is no column of the version
    assert (manifest.sales.rows, manifest.sales.size) == (head.rows, len(content))
    assert found.days is not None
    assert date.fromordinal(date(1970, 1, 1).toordinal() + int(found.days[0])) == manifest.data.last_sale
