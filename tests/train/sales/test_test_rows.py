"""The memory of test rows: what was written is read, and what is damaged is unknown."""

import numpy as np
import pytest

from train.sales import test_rows as seen

HOUSES = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [0.0, 2, 3, 4, 5], [-0.0, 2, 3, 4, 5]], dtype=np.float32)
PRICES = np.array([100_000, 100_001, 100_000, 100_000], dtype=np.float64)


def test_a_sale_is_known_by_house_and_price() -> None:
    first, dearer, zero, minus_zero = seen.hashes(HOUSES, PRICES).tolist()

    assert len({first, dearer, zero}) == 3
    assert zero == minus_zero


def test_a_sale_has_the_same_number_on_every_machine() -> None:
    assert seen.hashes(HOUSES[:1], PRICES[:1]).tolist() == [9997948898174210481]


def test_what_was_written_is_read() -> None:
    rows = seen.hashes(HOUSES, PRICES)

    found = seen.parse(seen.to_bytes(rows), "v1.0.0")

    assert found is not None
    assert found.tolist() == sorted(rows.tolist())


def test_no_rows_are_rows_too() -> None:
    found = seen.parse(seen.to_bytes(seen.hashes(HOUSES[:0], PRICES[:0])), "v1.0.0")

    assert found is not None
    assert len(found) == 0


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:-8], lambda data: data[:-1] + b"?", lambda _: b""]
)
def test_what_is_damaged_is_unknown(damage: object) -> None:
    data = seen.to_bytes(seen.hashes(HOUSES, PRICES))

    assert callable(damage)
    assert seen.parse(damage(data), "v1.0.0") is None


def test_without_a_file_nothing_is_known() -> None:
    assert seen.parse(None, "v1.0.0") is None
