"""Which rows a model may learn from: always the same ones."""

import hashlib
import struct

import numpy as np
import pytest

from pricing.artifacts.manifest import Split
from pricing.house import Matrix, columns_to_matrix
from train.sales.market import synthetic_sales
from train.sales.split import FOLDS, IDENTITY, folds, hold_back, positions, sides, split_by_house, weights

SPLIT = split_by_house("0")
BY_ALL = Split(salt="0", calibrate=0.2, test=0.2)


def market(rows: int, seed: int = 0) -> Matrix:
    return columns_to_matrix(synthetic_sales(rows, seed))


def different(rows: int) -> Matrix:
    """Houses of which no two are the same."""
    return np.column_stack([np.arange(1, rows + 1), *np.ones((4, rows))]).astype(np.float32)


def test_a_position_is_the_keyed_hash_of_what_identifies_the_house() -> None:
    # A change here deals every house anew: later models would be tested on houses that earlier ones learned from.
    house = np.array([[2000, 3, 2, 10, 5]], dtype=np.float32)
    for salt in ("0", "another"):
        hashed = hashlib.blake2b(struct.pack("<4f", 2000, 3, 2, 5), digest_size=8, key=salt.encode()).digest()
        assert positions(house, split_by_house(salt)).tolist() == [int.from_bytes(hashed, "big") / 2**64]
    assert positions(house, SPLIT).tolist() == [0.02990754571762302]


def test_a_version_that_does_not_say_what_identifies_a_house_has_hashed_all_five_features() -> None:
    house = np.array([[2000, 3, 2, 10, 5]], dtype=np.float32)
    hashed = hashlib.blake2b(struct.pack("<5f", 2000, 3, 2, 10, 5), digest_size=8, key=b"0").digest()
    assert positions(house, BY_ALL).tolist() == [int.from_bytes(hashed, "big") / 2**64] == [0.100114370191909]


def test_a_house_that_is_sold_again_at_another_age_keeps_its_position() -> None:
    houses = market(1_000)
    again = houses + np.array([0, 0, 0, 4, 0], dtype=np.float32)
    assert (positions(again, SPLIT) == positions(houses, SPLIT)).all()
    assert (positions(again, BY_ALL) != positions(houses, BY_ALL)).all()
    assert IDENTITY == ("square_feet", "bedrooms", "bathrooms", "distance_to_city")


def test_sales_of_a_house_share_its_vote() -> None:
    assert weights(np.array([0.3, 0.1, 0.3, 0.3])).tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])


def test_what_is_held_back_is_a_test_row_and_nothing_else() -> None:
    side = sides(np.array([0.1, 0.2, 0.7, 0.75, 0.9]), SPLIT)
    held = hold_back(side, np.array([False, True, False, True, False]))
    assert np.column_stack(held).astype(int).tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_twins_have_one_position() -> None:
    houses = market(100)
    assert (positions(np.concatenate([houses, houses]), SPLIT) == np.tile(positions(houses, SPLIT), 2)).all()


def test_minus_zero_is_zero() -> None:
    plus, minus = (np.array([[2000, 0, 2, zero, zero]], dtype=np.float32) for zero in (0.0, -0.0))
    assert plus.tobytes() != minus.tobytes()
    assert positions(plus, SPLIT) == positions(minus, SPLIT)


def test_one_step_of_float32_is_another_house() -> None:
    house = np.array([[2000, 3, 2, 10, 5]], dtype=np.float32)
    assert positions(house, SPLIT) != positions(np.nextafter(house, np.float32(np.inf)), SPLIT)


def test_a_row_keeps_its_side_when_others_come_and_go() -> None:
    houses = market(1_000)
    more = np.concatenate([market(500, seed=1), houses[::-1]])
    before, after = sides(positions(houses, SPLIT), SPLIT), sides(positions(more, SPLIT), SPLIT)
    for mask, later in zip(before, after, strict=True):
        assert (later[500:][::-1] == mask).all()


def test_strided_and_contiguous_rows_are_the_same_houses() -> None:
    houses = market(100)
    assert (positions(np.asfortranarray(houses)[::2], SPLIT) == positions(houses, SPLIT)[::2]).all()


def test_the_sides_of_a_new_version_are_cut_at_80_percent_and_those_of_an_old_one_at_60_too() -> None:
    position = np.array([0, 0.59, 0.61, 0.79, 0.81, 0.99])
    assert [mask.tolist() for mask in sides(position, SPLIT)] == [
        [True, True, True, True, False, False],
        [False] * 6,
        [False, False, False, False, True, True],
    ]
    assert [mask.tolist() for mask in sides(position, BY_ALL)] == [
        [True, True, False, False, False, False],
        [False, False, True, True, False, False],
        [False, False, False, False, True, True],
    ]


@pytest.mark.parametrize("salt", ["0", "1", "2"])
def test_every_row_is_on_one_side_and_a_fifth_is_for_testing(salt: str) -> None:
    dealt = np.column_stack(sides(positions(different(20_000), split_by_house(salt)), SPLIT))
    assert (dealt.sum(axis=1) == 1).all()
    assert dealt.mean(axis=0).tolist() == pytest.approx([0.8, 0, 0.2], abs=0.01)


def test_another_salt_is_another_split() -> None:
    zero, one = (sides(positions(different(20_000), split_by_house(salt)), SPLIT).test for salt in ("0", "1"))
    assert np.mean(one[zero]) == pytest.approx(0.2, abs=0.02)  # as by chance


def test_folds_keep_twins_together() -> None:
    position = positions(market(1_000), SPLIT)
    assert (folds(position[::-1]) == folds(position)[::-1]).all()


def test_each_fold_has_a_fifth_of_the_fit_rows() -> None:
    position = positions(different(20_000), SPLIT)
    shares = np.bincount(folds(position[sides(position, SPLIT).fit]), minlength=FOLDS) / sum(sides(position, SPLIT).fit)
    assert shares.tolist() == pytest.approx([0.2] * 5, abs=0.02)
