"""Files as people have them: the cases beside this repository, and others of the same kinds."""

import datetime as dt
import re
import runpy
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tests.gunicorn_process import ROOT
from train.errors import DataError
from train.models.worth import check_variation
from train.sales import rows as data
from train.sales.numbers import numbers
from train.sales.rows import KILOMETER, SQUARE_METER, Reading, day_of

CASES: Final = ROOT.parent / "shared" / "cases" / "files.py"
HEADER: Final = "square_feet,bedrooms,bathrooms,age_years,distance_to_city,price"
ROW: Final = "2000,3,2.5,10,5,400000"
NOT_HERE: Final = pytest.mark.skipif(
    not CASES.exists(), reason="../shared/cases/files.py is not beside this repository"
)


def write(tmp_path: Path, content: str | bytes, name: str = "sales.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cases() -> list[Any]:
    return list(runpy.run_path(str(CASES))["CASES"]) if CASES.exists() else []


@NOT_HERE
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_each_case_is_read_or_refused_as_it_should_be(case: Any, tmp_path: Path) -> None:  # noqa: ANN401 -- a row there
    path = write(tmp_path, case.content, case.name)
    try:
        sales = data.read(path)
        check_variation(sales)
        lines = [line for refusal in sales.refusals for line in refusal.first_lines]
        observed = len(sales.prices), sales.refused, min(lines, default=None)
        printed = " ".join((*map(str, sales.refusals), *sales.notes))
    except DataError as error:
        observed, printed = (0, case.refused, case.line), str(error)
        for row in case.content.decode("latin-1").splitlines()[1:20]:
            assert row not in printed or not row.strip(",[] ")

    assert observed == (case.reads, case.refused, case.line)
    assert [word for word in case.says if word not in printed] == []


@NOT_HERE
def test_there_are_thirty_cases() -> None:
    assert len(cases()) == 30


GOOD: Final[dict[str, str | bytes]] = {
    "old line ends of a Mac": f"{HEADER}\r{ROW}\r{ROW}",
    "sep in quotes and in capitals": f'"SEP=,"\r\n{HEADER}\r\n{ROW}\r\n{ROW}\r\n',
    "a mark and sep": f"\ufeffsep=,\n{HEADER}\n{ROW}\n{ROW}\n",
    "several blank lines, and some of commas, before the header": f"\n ,,\n\n{HEADER}\n{ROW}\n{ROW}\n",
    "tabs and hard spaces around": f"{HEADER}\n{ROW.replace(',', chr(9) + ',' + chr(160))}\n{ROW}\n",
    "more commas at the end of each line": f"{HEADER},,\n{ROW},,\n{ROW},,\n",
    "more commas at the end of some lines": f"{HEADER}\n{ROW},,\n{ROW}\n",
    "commas and spaces at the end": f"{HEADER}\n{ROW}\n , , , , , \n{ROW}\n ,,,,,\n",
    "several Ctrl-Z": f"{HEADER}\r\n{ROW}\r\n{ROW}\r\n\x1a\x1a".encode(),
    "curly quotes of Windows": f"note,{HEADER}\n\u201chome\u201d,{ROW}\ncaf\u00e9,{ROW}\n".encode("cp1252"),
    "quotes inside of a cell": f'note,{HEADER}\n12" pipe,{ROW}\n"say ""hi""",{ROW}\n',
    "quotes that are not doubled, to the last line": f'note,{HEADER}\n"a 3" pipe",{ROW}\n"say \\"hi\\" now",{ROW}\n',
    "a remark of two lines with commas": f'note,{HEADER}\n"nice,\nold, red, 3, 2, warm, dry, big",{ROW}\na,{ROW}\n',
    "control characters in a remark": f"note,{HEADER}\ntwo\x0bparts\x0c\x1f,{ROW}\na,{ROW}\n",
    "two byte order marks": f"\ufeff\ufeff{HEADER}\n{ROW}\n{ROW}\n",
    "a letter of Windows-1250 that Windows-1252 does not know": f"city,{HEADER}\n\u0179le,{ROW}\na,{ROW}\n".encode(
        "cp1250"
    ),
    "letters that another program has lost": f"city,{HEADER}\nKrak\ufffdw,{ROW}\n{chr(0xFFFD) * 20},{ROW}\n",
    "two encodings": f"city,{HEADER}\n\u00c1vila,{ROW}\n".encode() + f"Z\u00fcrich,{ROW}\n".encode("latin-1"),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_what_programs_add_to_a_file_does_not_matter(content: str | bytes, tmp_path: Path) -> None:
    sales = data.read(write(tmp_path, content))
    assert (sales.houses.tolist(), sales.refused) == ([[2000, 3, 2.5, 10, 5]] * 2, 0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"sep=;\n{HEADER}\n{ROW}\n", "cells must be separated by commas"),
        (f"note,{HEADER}\n" + f'a,{ROW}\n"3 inch,{ROW}\n' + f"a,{ROW}\n" * 9_000, "line 3: a quote"),
        (f"note,{HEADER}\n" + f'a,{ROW}\n"3 inch,{ROW}\n' + f"a,{ROW}\n" * 9 + f'b",{ROW}\n', "line 3: a quote"),
        (HEADER.replace("square_feet", "Square Feet") + f"\n{ROW}\n", "`--rename 'Square Feet=square_feet'`"),
        (f"sep=;\n{HEADER}\n{ROW}\n", "found semicolons; save the file as CSV with commas"),
        (f'{HEADER},note\n{ROW},a\n{ROW},"3 inch\n', "line 3: a quote"),
        (f"note,{HEADER}\na,{ROW}\n{'x' * 140_000},{ROW}\n", "line 3: a cell has more than 131,072 characters"),
        (f'note,{HEADER}\n"{"x" * 140_000}",{ROW}\n', "line 2: a cell has more than 131,072 characters"),
    ],
)
def test_a_file_that_would_be_misread_is_refused(content: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(expected)):
        data.read(write(tmp_path, content))


def test_the_names_that_differ_in_case_and_spaces_are_offered_together(tmp_path: Path) -> None:
    header = "$/SQUARE FEET,SQUARE FEET,Bed-Rooms,bathrooms,age_years,distance_to_city,PRICE"
    with pytest.raises(DataError, match=r"`--rename 'SQUARE FEET=square_feet,Bed-Rooms=bedrooms,PRICE=price'`"):
        data.read(write(tmp_path, f"{header}\n1,{ROW}\n"))


@pytest.mark.parametrize(
    "row",
    [
        '"{5BBE9CB3}","42000","1995-12-21 00:00","NE4 9DN","MATFEN PLACE"',
        "Bern,2000,3,2.5",
        "0.00632  18.00   2.310  0",
        "MATFEN PLACE,2019-07-01",
    ],
)
def test_a_file_without_a_header_is_refused_and_its_first_row_is_not_printed(row: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{row}\n{row}\n")
    for reading in (Reading(), Reading({"PRICE": "price"})):
        with pytest.raises(DataError, match="found numbers in the first line, which must hold the names") as error:
            data.read(path, reading=reading)
        assert [cell for cell in re.findall(r"[\w.]{4,}", row) if cell in str(error.value)] == []


def test_a_column_in_which_no_cell_is_a_number_is_not_compared_with_other_cells(tmp_path: Path) -> None:
    euros = "\n".join([HEADER, *[ROW.replace("400000", '"\u20ac458,150.00"')] * 3])
    with pytest.raises(DataError, match=re.escape('price not a number, such as "\u20ac458,150.00": 3 rows')):
        data.read(write(tmp_path, euros))


@pytest.mark.parametrize(
    "slips", [["99.5"], ["450000.50"], ["450."], ["1.250.000", "99.5"], ["1.250.000"] * 3 + ["9.5"] * 3]
)
def test_a_slip_does_not_prove_that_points_are_decimal_points(slips: list[str]) -> None:
    found = numbers(["450.000"] * 150 + slips)
    assert found.is_ambiguous
    assert np.isnan(found.values[:150]).all()


def test_a_slip_does_not_disprove_it_either() -> None:
    found = numbers(["47.511"] * 90 + ["47.52"] * 10 + ["1.234.567"])
    assert (found.values[[0, 99]].tolist(), found.unread) == ([47.511, 47.52], {100: "1.234.567"})


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["$1", "$2.50"], [1, 2.5]),
        (["$ 1,000", "$ 20"], None),
        (["$ 1,000", "$ 2,000"], [1000, 2000]),
        (["$-5", "-$6"], [-5, -6]),
        (["1,000", "1,000,000", "7"], [1000, 1e6, 7]),
        (["1,000.25", "2,000"], [1000.25, 2000]),
        (["1'000", "2'000"], [1000, 2000]),
        (["1\u202f000", "2\u00a0000"], [1000, 2000]),
        (["47.511", "47.52"], [47.511, 47.52]),
        (["0.511", "47.123"], [0.511, 47.123]),
        (["-122.257", "-122.3045"], [-122.257, -122.3045]),
        (["1234.567", "450.000"], [1234.567, 450]),
        (["450.000", "451"], None),
        (["1.234.567", "2.345.678"], None),
        (["1,000", "1000"], None),
        (["1,000", "7", "8"], None),
        (["$5", "6"], None),
        (["1,5", "2,5"], None),
        (["12,34,567", "1,000"], None),
        (["1 000", "2,000"], None),
        (["1_000", "2"], None),
        (["0x10", "2"], None),
        (["١٢", "2"], None),
        (["5%", "6%"], None),
        (["1e3", "2E+2"], [1000, 200]),
    ],
)
def test_marks_count_if_the_whole_column_agrees(cells: list[str], read: list[float] | None) -> None:
    found = numbers(cells)
    if read is None:
        assert found.unread
    else:
        assert (found.values.tolist(), found.unread) == (read, {})


def test_a_footer_is_a_refused_row_wherever_it_stands(tmp_path: Path) -> None:
    rows = [ROW] * 40
    sales = data.read(
        write(tmp_path, "\n".join([HEADER, *rows, "end of file", *rows, "Source: county", "end of file"]))
    )
    assert len(sales.prices) == 80
    assert list(map(str, sales.refusals)) == ["the row has 1 cell, expected 6: 3 rows (line 42, 83, 84)"]


def test_one_mark_is_a_slip_and_is_shown(tmp_path: Path) -> None:
    sales = data.read(
        write(tmp_path, "\n".join([HEADER, *[ROW.replace("2000", "900")] * 40, '"1,900",3,2,1,5,400000']))
    )
    assert list(map(str, sales.refusals)) == [
        'square_feet not a number as the other cells are, such as "1,900": 1 row (line 42)'
    ]


def test_a_share_of_refused_rows_may_be_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join([HEADER, *[ROW] * 90, *[ROW.replace("2000", "x")] * 10]))
    with pytest.raises(DataError, match=r"--allow-refused 10% accepts that$"):
        data.read(path)
    assert data.read(path, reading=Reading(allow_refused=0.1)).refused == 10


def test_columns_are_renamed_and_units_converted(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER.replace('square_feet', 'sqm')},note\n200,3,2.5,10,5,400,x\n")
    reading = Reading(
        {"sqm": "square_feet"}, {"square_feet": SQUARE_METER, "distance_to_city": KILOMETER, "price": 1000}
    )
    sales = data.read(path, reading=reading)
    assert sales.houses[0, [0, 4]].tolist() == pytest.approx([2152.782, 3.1069], rel=1e-4)
    assert sales.prices.tolist() == [400_000]


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading({"nothing": "price"}), "--rename names the column nothing, which was not found"),
        (Reading({"bedrooms": "price"}), "--rename bedrooms=price: the file has a column price already"),
        (Reading(units={"lot": 2}), "missing column lot"),
        (Reading(sold_on="date"), "missing column date"),
    ],
)
def test_an_option_that_names_no_column_is_refused(reading: Reading, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(expected)):
        data.read(write(tmp_path, f"{HEADER}\n{ROW}\n"), reading=reading)


@pytest.mark.parametrize(
    "cell", ["2014-10-13", "20141013T000000", "20141013", "2014-10-13 12:30:00", "2014-10-13T01:00Z"]
)
def test_dates_of_sale_are_read(cell: str, tmp_path: Path) -> None:
    sales = data.read(write(tmp_path, f"{HEADER},sold_on\n{ROW},{cell}\n"))
    assert sales.sold_on is not None
    assert sales.sold_on.tolist() == [dt.date(2014, 10, 13)]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("10/13/2014", "not a date"),
        ("", "not a date"),
        ("2014", "not a date"),
        ("2014-13-01", "not a date"),
        ("9999-01-01", "before 1800 or in the future"),
        ("1014-10-13", "before 1800 or in the future"),
    ],
)
def test_what_is_no_date_is_a_refused_row(cell: str, reason: str, tmp_path: Path) -> None:
    sales = data.read(
        write(tmp_path, "\n".join([f"{HEADER},day", *[f"{ROW},2014-10-13"] * 40, f"{ROW},{cell}"])),
        None,
        Reading(sold_on="day"),
    )
    assert len(sales.prices) == 40
    assert f"day {reason}" in str(sales.refusals[0])
    assert sales.refusals[0].first_lines == (42,)


def test_a_day_may_be_a_whole_number_as_in_parquet() -> None:
    assert day_of(20141013.0) == day_of(20141013) == dt.date(2014, 10, 13)
    assert day_of(20141013.5) is None


def test_without_dates_nothing_is_known_of_time(tmp_path: Path) -> None:
    assert data.read(write(tmp_path, f"{HEADER}\n{ROW}\n")).sold_on is None


def test_further_columns_are_kept_as_they_are_written(tmp_path: Path) -> None:
    path = write(tmp_path, f"zip,{HEADER},note\n098103,{ROW},x\n,{ROW},\n1,0,0,0,0,0,0,z\n" + f"5,{ROW},y\n" * 30)
    assert list(data.read(path).others.values) == []
    kept = data.read(path, reading=Reading(others=None)).others.values
    assert {name: cells[:3].tolist() for name, cells in kept.items()} == {
        "zip": ["098103", "", "5"],
        "note": ["x", "", "y"],
    }
    assert all(isinstance(cells, np.ndarray) for cells in kept.values())
