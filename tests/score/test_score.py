"""Whole files: their prices are those of the service, and nothing else of them changes."""

import csv
import json
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import orjson
import pytest

from pricing.artifacts.store import Artifact, Store
from score.plan import ScoreError
from tests.column_sales import columns, write
from tests.score.scoring import ADDED, answers, in_disorder, priced, rows_of, run
from train.errors import DataError
from train.sales import market

ROWS: Final = 60
HOUSE: Final = {"square_feet": 2000, "bedrooms": 3, "bathrooms": 2, "age_years": 10, "distance_to_city": 5}


@pytest.fixture
def with_columns(knowing: Artifact, tmp_path: Path) -> Store:
    store = Store(tmp_path / "artifacts")
    store.publish(knowing)
    store.deploy("v2.0.0")
    return store


def houses(rows: int = ROWS, seed: int = 5) -> list[dict[str, Any]]:
    found = market.synthetic_sales(rows, seed)
    del found["price"]
    return [
        {name: float(value) for name, value in zip(found, row, strict=True)} | {"id": f"a{number}", "note": None}
        for number, row in enumerate(zip(*found.values(), strict=True))
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a file, by the ending of its name."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return path
    lines = path.with_suffix(".jsonl")
    lines.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    if path.suffix == ".parquet":
        with duckdb.connect() as connection:
            connection.execute(f"copy (from read_json('{lines}', sample_size = -1)) to '{path}' (format parquet)")
    return path


@pytest.mark.parametrize("source", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("target", ["csv", "parquet", "jsonl"])
def test_prices_are_those_of_the_service_in_the_order_of_the_rows(
    source: str, target: str, store: Store, tmp_path: Path
) -> None:
    rows = houses()
    file, out = written(tmp_path / f"houses.{source}", rows), tmp_path / f"prices.{target}"

    found = run(store, file, out, in_disorder, rows_a_part=7)

    assert (found.rows, found.refused, found.refused_file, found.version) == (ROWS, 0, None, "v1.0.0")
    assert [(200, price) for price in priced(out)] == answers(store, rows)
    assert [row["id"] for row in rows_of(out)] == [row["id"] for row in rows]
    assert list(rows_of(out)[0]) == [*rows[0], *ADDED]
    assert sorted(path.name for path in tmp_path.glob("prices*")) == [out.name]


def test_the_level_and_the_version_are_those_that_are_asked_for(
    store: Store, published: Artifact, tmp_path: Path
) -> None:
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    file = written(tmp_path / "houses.csv", houses(3))

    run(store, file, tmp_path / "prices.csv", confidence=0.5, version="v1.1.0")

    by_service = answers(store, houses(3), "confidence=0.5")
    assert [(200, (*price[:3], "v1.0.0")) for price in priced(tmp_path / "prices.csv")] == by_service
    assert {price[3] for price in priced(tmp_path / "prices.csv")} == {"v1.1.0"}


@pytest.mark.parametrize("source", ["csv", "parquet", "jsonl"])
def test_the_columns_of_a_version_are_read_as_in_a_request(source: str, with_columns: Store, tmp_path: Path) -> None:
    cells = {name: [_plain(value) for value in values] for name, values in columns(80, seed=3).items()}
    cells["sale_price"] = cells.pop("price")
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    rows[4]["heating"] = "coal"  # which training has not seen
    file = written(tmp_path / f"houses.{source}", rows)

    run(with_columns, file, tmp_path / "prices.jsonl")

    assert [(200, price) for price in priced(tmp_path / "prices.jsonl")] == answers(with_columns, rows)


def test_a_row_is_valid_exactly_if_it_is_valid_in_a_request(with_columns: Store, tmp_path: Path) -> None:
    odd: list[Any] = [
        "2",
        True,
        None,
        [3],
        {},
        -1,
        0,
        1e-300,
        0.5,
        50,
        50.5,
        1e308,
        10**400,
        3.0000000001,
        "x" * 201,
        98103,
    ]
    names = ("square_feet", "bedrooms", "latitude", "zip_code", "heating")
    lines = [f'{{"id": {number}, {text[1:]}' for number, text in enumerate(_texts(names, odd))]
    file = tmp_path / "houses.jsonl"
    file.write_text("\n".join([*lines, "[1]", "{", '{"a": 1, "a": 2}', "NaN", ""]))

    found = run(with_columns, file, tmp_path / "prices.jsonl")

    by_service = [status for status, _ in answers(with_columns, lines)]
    assert {row["id"] for row in rows_of(tmp_path / "prices.jsonl")} == {
        number for number, status in enumerate(by_service) if status == 200
    }
    assert found.refused == by_service.count(422) + 4
    assert 10 < found.rows < len(lines) - 10


def _texts(names: tuple[str, ...], values: list[Any]) -> list[str]:
    return [json.dumps({**HOUSE, name: value}) for name in names for value in values]


def _plain(value: Any) -> Any:  # noqa: ANN401 -- any cell
    return value.item() if isinstance(value, np.generic) else value


def test_a_row_that_is_not_a_house_costs_only_itself(store: Store, tmp_path: Path) -> None:
    head = "square_feet,bedrooms,bathrooms,age_years,distance_to_city,note"
    lines = [
        "2000,3,2,10,5,a",
        "0,3,2,10,5,b",
        "2000,3.5,2,10,1001,c",
        "",
        "2000,3,2,10,5",
        'two,3,2,10,5,"of, two\nlines"',
        "1_000,3,2,10,5,d",
        ",3,2,10,5,e",
        '2000,3,2,10,5,"of ""two""\nlines"',
        "1500,3,2,10,5,f",
    ]
    file = tmp_path / "houses.csv"
    file.write_text("\n".join([head, *lines]))

    found = run(store, file, tmp_path / "prices.csv", rows_a_part=2)

    assert [row["note"] for row in rows_of(tmp_path / "prices.csv")] == ["a", 'of "two"\nlines', "f"]
    assert found.refused_file is not None
    assert found.refused_file.read_text("utf-8").splitlines() == [
        "file,line,reason",
        f"{file},3,square_feet: not above 0",
        f'{file},4,"bedrooms: not a whole number; distance_to_city: above 1,000"',
        f'{file},6,"the row has 5 cells, expected 6"',
        f"{file},7,square_feet: missing or not a finite number",
        f"{file},9,square_feet: missing or not a finite number",
        f"{file},10,square_feet: missing or not a finite number",
    ]
    assert (found.rows, found.refused, max(found.reasons.values())) == (3, 6, 3)


def test_lines_are_counted_the_same_with_and_without_quotes(store: Store, tmp_path: Path) -> None:
    head, good, bad = (
        "square_feet,bedrooms,bathrooms,age_years,distance_to_city,note\n",
        "2000,3,2,10,5,a\n",
        "0,3,2,10,5,a\n",
    )
    lines = (good * 5 + bad + "\n" + good) * 4
    found = []
    for name, text in (
        ("plain", lines),
        ("quoted", lines.replace(",a", ',"a"')),
        ("windows", lines.replace("\n", "\r\n")),
    ):
        (tmp_path / f"{name}.csv").write_bytes((head + text).encode())
        scored = run(store, tmp_path / f"{name}.csv", tmp_path / f"{name}.out.csv", rows_a_part=3)
        assert scored.refused_file is not None
        found.append([row["line"] for row in rows_of(scored.refused_file)])
        assert scored.rows == 24

    assert found == [["7", "15", "23", "31"]] * 3


def test_columns_are_renamed_and_units_change_only_what_is_priced(store: Store, tmp_path: Path) -> None:
    metric = [{**row, "square_feet": row["square_feet"] / 10.763910416709722, "price": 7} for row in houses(5)]
    file = written(
        tmp_path / "houses.csv", [{"m2" if k == "square_feet" else k: v for k, v in r.items()} for r in metric]
    )

    rename = {"m2": "square_feet", "price": "sale_price"}
    run(store, file, tmp_path / "prices.csv", rename=rename, units={"square_feet": 10.763910416709722})

    exact = [{**row, "square_feet": row["square_feet"] * 10.763910416709722} for row in metric]
    assert [(200, price) for price in priced(tmp_path / "prices.csv")] == answers(store, exact)
    found = rows_of(tmp_path / "prices.csv")
    assert [float(row["square_feet"]) for row in found] == [row["square_feet"] for row in metric]
    assert {row["sale_price"] for row in found} == {"7"}


def test_the_size_of_the_parts_changes_nothing(store: Store, tmp_path: Path) -> None:
    rows = [row | {"note": 'a "b",\n\nc' if number % 3 else "é"} for number, row in enumerate(houses(50))]
    file = written(tmp_path / "houses.csv", rows)
    found = set()
    for size in (1, 2, 13, 1_000):
        run(store, file, tmp_path / f"{size}.csv", rows_a_part=size)
        found.add((tmp_path / f"{size}.csv").read_bytes())

    assert len(found) == 1
    assert [row["note"] for row in rows_of(tmp_path / "1.csv")] == [row["note"] for row in rows]


def test_the_files_of_a_glob_are_one_file_in_the_order_of_their_names(store: Store, tmp_path: Path) -> None:
    rows = houses(9)
    for number in (2, 0, 1):
        written(tmp_path / f"houses-{number}.csv", rows[3 * number : 3 * number + 3])
    run(store, tmp_path / "houses-*.csv", tmp_path / "prices.csv", rows_a_part=2)

    assert [row["id"] for row in rows_of(tmp_path / "prices.csv")] == [row["id"] for row in rows]


def test_a_text_that_is_not_utf_8_is_that_of_windows(store: Store, tmp_path: Path) -> None:
    (tmp_path / "houses.csv").write_bytes((",".join(HOUSE) + ",note\n2000,3,2,10,5,Stra\xdfe\n").encode("cp1252"))
    run(store, tmp_path / "houses.csv", tmp_path / "prices.csv")

    assert rows_of(tmp_path / "prices.csv")[0]["note"] == "Straße"


def test_types_of_other_columns_stay(store: Store, tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        cells = ", ".join(f"{value}::decimal(9, 2) as {name}" for name, value in HOUSE.items())
        others = "date '2024-01-02' as day, [1, 2] as list, {'a': 1} as struct, 'x' as \"a b\""
        target = tmp_path / "houses.parquet"
        connection.execute(f"copy (select {cells}, {others}) to '{target}' (format parquet)")
        run(store, tmp_path / "houses.parquet", tmp_path / "prices.parquet")
        described = "select column_name, column_type from (describe from read_parquet($1))"
        before, after = (
            dict(connection.execute(described, [str(tmp_path / name)]).fetchall())
            for name in ("houses.parquet", "prices.parquet")
        )

    assert after == before | {"price": "DOUBLE", "lower": "DOUBLE", "upper": "DOUBLE", "model_version": "VARCHAR"}


def test_json_lines_stay_as_they_are_written(store: Store, tmp_path: Path) -> None:
    line = (
        '{"square_feet":2000,"bedrooms":3.0,"bathrooms":2.5,"age_years":10,"distance_to_city":5,'
        '"id":12345678901234567890123,"x":{"y":[1,null]}}'
    )
    (tmp_path / "houses.jsonl").write_text(line)
    run(store, tmp_path / "houses.jsonl", tmp_path / "prices.jsonl")

    assert (tmp_path / "prices.jsonl").read_text().startswith(line[:-1] + ',"price":')


@pytest.mark.parametrize(
    ("head", "options", "sentence"),
    [
        ("square_feet,bedrooms,bathrooms,age_years,price,distance_to_city", {}, "`--rename price=NAME` gives"),
        ("sqft,bedrooms,bathrooms,age_years,distance_to_city", {}, "missing column square_feet; .*--rename"),
        (",".join(HOUSE), {"rename": {"x": "y"}}, "names the column x, which was not found"),
        (",".join(HOUSE) + ",x", {"rename": {"x": "bedrooms"}}, "gives the name bedrooms to a second column"),
        (",".join(HOUSE) + ",x,x", {}, "column x is there more than once"),
        (",".join(HOUSE) + ",x", {"units": {"x": 2.0}}, "--unit x: the version reads no number of this name"),
        (",".join(HOUSE), {"units": {"y": 2.0}}, "missing column y"),
    ],
)
def test_columns_that_cannot_be_used_are_named(
    head: str, options: dict[str, Any], sentence: str, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "houses.csv").write_text(head + "\n" + ",".join("1" * len(head.split(","))) + "\n")
    with pytest.raises(DataError, match=sentence):
        run(store, tmp_path / "houses.csv", tmp_path / "prices.csv", **options)
    assert list(tmp_path.glob("prices*")) == []


def test_files_that_cannot_be_used_are_named(store: Store, tmp_path: Path) -> None:
    head = ",".join(HOUSE) + "\n"
    contents = {
        "empty.csv": ("", "is empty"),
        "header.csv": (head, "no rows"),
        "open.csv": (head + '2000,3,2,10,"5\n' * 3, "opened and not closed"),
        "array.jsonl": ('[\n{"a": 1}]', "is a JSON array"),
        "text.parquet": (head, "it is not Parquet"),
        "houses.xlsx": (head, r"expected \.csv"),
    }
    for name, (text, sentence) in contents.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=sentence):
            run(store, tmp_path / name, tmp_path / "prices.csv")
    with pytest.raises(DataError, match="file not found"):
        run(store, tmp_path / "none*.csv", tmp_path / "prices.csv")
    with pytest.raises(DataError, match=r"prices\.txt: expected \.csv"):
        run(store, written(tmp_path / "houses.csv", houses(2)), tmp_path / "prices.txt")
    with pytest.raises(ScoreError, match="make it before"):
        run(store, tmp_path / "houses.csv", tmp_path / "none" / "prices.csv")
    written(tmp_path / "houses2.csv", [{"other": 1, **HOUSE}])
    with pytest.raises(DataError, match=r"expected the columns of .*houses\.csv; different: id, note, other"):
        run(store, tmp_path / "houses*.csv", tmp_path / "prices.csv")
    assert list(tmp_path.glob("prices*")) == []


def test_a_file_of_a_million_small_cells_is_cut_between_records(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells: dict[str, list[object]] = {name: [value] * 300 for name, value in HOUSE.items()}
    cells["note"] = ["\n" * int(count) + '"' for count in rng.integers(5, size=300)]
    write(tmp_path / "houses.csv", cells)

    found = run(store, tmp_path / "houses.csv", tmp_path / "prices.csv", rows_a_part=11)

    assert (found.rows, found.refused) == (300, 0)
    assert [row["note"] for row in rows_of(tmp_path / "prices.csv")] == cells["note"]
