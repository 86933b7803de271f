"""Which further columns of a file are learned from, of which kind, and one sentence for each that is refused."""

import re
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.column_sales import columns as made
from tests.column_sales import write
from train.errors import DataError
from train.sales import rows as data
from train.sales.columns import ColumnChoice, Values, Wish, choose, parse_wishes, read_wishes, wishes_of
from train.sales.rows import Reading, Sales

ROWS: Final = 400


def sales(folder: Path, **further: list[object]) -> Sales:
    """The market with these columns instead of its further ones."""
    cells = {
        name: cells for name, cells in made(ROWS).items() if name not in {"latitude", "zip_code", "heating", "noise"}
    }
    return data.read(write(folder / "sales.csv", cells | further), reading=Reading(others=None))


def cells(text: str, rows: int = ROWS) -> list[object]:
    return [text.replace("#", str(number)) for number in range(rows)]


def taken(folder: Path, choice: ColumnChoice = "all", **further: list[object]) -> dict[str, Values]:
    return {column.name: column for column in choose(sales(folder, **further), choice).columns}


def priced() -> list[object]:
    return [price / feet for price, feet in zip(made(ROWS)["price"], made(ROWS)["square_feet"], strict=True)]  # type: ignore[operator]


MIXED: Final[list[object]] = ["a", "b"] * (ROWS // 2)


@pytest.mark.parametrize(
    ("name", "column", "reason"),
    [
        ("sale_id", cells("#"), "is an identifier: 400 different whole numbers in 400 rows"),
        ("parcel", cells("A-#"), "is an identifier"),
        ("state", ["WA"] * ROWS, "has the same value everywhere"),
        ("pool", [""] * ROWS, "has no values"),
        ("listed", ["2014-05-02", "20140502T000000"] * (ROWS // 2), "holds dates"),
        ("remarks", [f"A fine house with a view of lake {n}, quiet" for n in range(ROWS)], "free text"),
    ],
)
def test_all_leaves_out_what_teaches_nothing_with_its_reason(
    tmp_path: Path, name: str, column: list[object], reason: str
) -> None:
    chosen = choose(sales(tmp_path, **{name: column, "kind": MIXED}), "all")

    assert [column.name for column in chosen.columns] == ["kind"]
    (sentence,) = chosen.left_out
    assert sentence.startswith(f"{name} ")
    assert reason in sentence


def test_the_option_for_the_date_of_sale_is_named_only_if_no_date_is_known(tmp_path: Path) -> None:
    days: list[object] = ["2014-05-02", "2014-05-03"] * (ROWS // 2)
    assert choose(sales(tmp_path, listed=days), "all").left_out == (
        "listed holds dates; --sold-on names the date of sale",
    )
    assert set(choose(sales(tmp_path, listed=days, sold_on=days), "all").left_out) == {
        "listed holds dates",
        "sold_on holds dates",
    }


@pytest.mark.parametrize("factor", [1.0, 0.0001, 3.7])
def test_a_column_that_holds_the_price_in_another_form_leaks(tmp_path: Path, factor: float) -> None:
    leak: list[object] = [factor * value for value in priced()]  # type: ignore[operator]

    (sentence,) = choose(sales(tmp_path, leak=leak), "all").left_out
    assert sentence.startswith("leak leaks the price")
    with pytest.raises(DataError, match=r"^sales\.csv: column leak leaks the price"):
        choose(sales(tmp_path, leak=leak), parse_wishes("leak"))


def test_a_good_column_does_not_leak(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy: list[object] = [value * np.exp(0.5 * rng.standard_normal()) for value in priced()]
    assert set(taken(tmp_path, noisy=noisy)) == {"noisy"}


def test_values_decide_the_kind_unless_it_is_named(tmp_path: Path) -> None:
    zips: list[object] = [98101 + number % 7 for number in range(ROWS)]
    grades: list[object] = [number % 12 for number in range(ROWS)]
    found = taken(tmp_path, zips=zips, grades=grades, kind=MIXED)
    assert {name: column.kind for name, column in found.items()} == {
        "zips": "category",
        "grades": "number",
        "kind": "category",
    }
    named = taken(tmp_path, parse_wishes("zips:number, grades:category"), zips=zips, grades=grades)
    assert [column.kind for column in named.values()] == ["number", "category"]


def test_the_forms_of_a_zip_code_are_one_category(tmp_path: Path) -> None:
    zips: list[object] = ["98101", "98101.0", " 98101 ", "98102"] * (ROWS // 4)
    assert taken(tmp_path, parse_wishes("zips:category"), zips=zips)["zips"].names == ("98101", "98102")


def test_missing_values_are_unknown(tmp_path: Path) -> None:
    found = taken(tmp_path, view=["", "NA", "null", "3", "5"] * (ROWS // 5), kind=["", "a", "b", "NA"] * (ROWS // 4))
    assert np.isnan(found["view"].values).mean() == 0.6
    assert np.isnan(found["kind"].values).mean() == 0.5


def test_a_number_that_is_text_somewhere_is_refused_with_its_cell(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'^sales\.csv: column view is not a number everywhere, such as "good"'):
        taken(tmp_path, parse_wishes("view:number"), view=["1", "2", "3", "good"] * (ROWS // 4))


def test_1_001_categories_are_refused(tmp_path: Path) -> None:
    many = {name: cells for name, cells in made(2_002).items() if name != "noise"}
    many["street"] = [f"street {number % 1_001}" for number in range(2_002)]
    found = data.read(write(tmp_path / "sales.csv", many), reading=Reading(others=("street",)))
    with pytest.raises(DataError, match=r"^sales\.csv: column street has 1,001 categories, at most 1,000"):
        choose(found, parse_wishes("street:category"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("square_feet", "square_feet is a field of the contract"),
        ("price", "price is a field of the contract"),
        ("sold_on", "sold_on is a field of the contract"),
        (",".join(f"c{number}" for number in range(61)), "61 columns are named, at most 60 are possible"),
        ("view:colour", "expected NAME, NAME:number or NAME:category, each name once, got 'view:colour'"),
        ("view,view", "each name once, got 'view'"),
        ("view,,grade", "got ''"),
        ("", "got ''"),
        ("x" * 65, "is not a name"),
        ("a/b", "is not a name"),
    ],
)
def test_columns_that_cannot_be_are_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as refusal:
        parse_wishes(text)
    assert "\n" not in str(refusal.value)


def test_a_column_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing column garden"):
        choose(sales(tmp_path, kind=MIXED), parse_wishes("garden"))


def test_a_file_of_columns_says_what_each_is(tmp_path: Path) -> None:
    path = tmp_path / "columns.toml"
    path.write_text(
        '[latitude]\nunit = "degrees"\nminimum = -90\nmaximum = 90\ngroup = "place"\n\n'
        '[zip_code]\nkind = "category"\ndescription = "Postal code"\n'
    )
    assert read_wishes(path) == {
        "latitude": Wish(unit="degrees", minimum=-90, maximum=90, group="place"),
        "zip_code": Wish(kind="category", description="Postal code"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[latitude", "cannot be read as TOML"),
        ('[latitude]\nkind = "colour"', "latitude.kind"),
        ("[latitude]\nsize = 3", "latitude.size"),
        ("[bedrooms]", "bedrooms is a field of the contract"),
    ],
)
def test_a_file_of_columns_that_is_not_valid_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "columns.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_wishes(path)


def test_numbers_beyond_their_bounds_are_unknown(tmp_path: Path) -> None:
    found = taken(tmp_path, {"view": Wish(minimum=0, maximum=4)}, view=["-1", "0", "4", "5"] * (ROWS // 4))
    assert np.isnan(found["view"].values).mean() == 0.5


def test_all_of_more_than_60_columns_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many: dict[str, list[object]] = {f"c{number}": [*rng.random(ROWS)] for number in range(61)}
    with pytest.raises(DataError, match=r"61 columns can be learned from, at most 60 are possible; name them"):
        choose(sales(tmp_path, **many), "all")


def test_none_are_no_columns() -> None:
    assert parse_wishes("none") == wishes_of(()) == {}
