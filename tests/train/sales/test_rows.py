"""From files to rows: what is read, what is refused, and in which words."""

import gzip
import math
from pathlib import Path

import duckdb
import numpy as np
import pytest

from pricing.house import FEATURES
from train.errors import DataError
from train.sales import market, tables
from train.sales import rows as data
from train.sales.rows import Refusal, Sales
from train.sales.tables import COLUMNS

HEADER = "square_feet,bedrooms,bathrooms,age_years,distance_to_city,price"
ROW = "2000,3,2.5,10,5,400000"
FOUND = "expected square_feet, bedrooms, bathrooms, age_years, distance_to_city, price; found"


def csv(tmp_path: Path, *lines: str, name: str = "sales.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def parquet(tmp_path: Path, columns: str) -> Path:
    """Forty rows of `columns`, as SQL."""
    path = tmp_path / "sales.parquet"
    with duckdb.connect() as connection:
        connection.sql(f"select {columns} from range(40)").write_parquet(str(path))  # noqa: S608 -- our own
    return path


PARQUET = "2000 square_feet, 3 bedrooms, 2.5 bathrooms, 10 age_years, 5 distance_to_city, 400000 price"


def refused(path: Path, query: str | None = None) -> str:
    """The one line that says why the file cannot be used."""
    with pytest.raises(DataError) as error:
        data.read(path, query)
    message = str(error.value)
    assert message.splitlines() == [message]
    assert path.name in message
    return message


def with_cell(tmp_path: Path, field: str, cell: str) -> Path:
    """Forty good rows, and on line 42 one with a cell of its own."""
    cells = dict(zip(COLUMNS, ROW.split(","), strict=True)) | {field: cell}
    return csv(tmp_path, HEADER, *[ROW] * 40, ",".join(cells.values()))


class TestReading:
    def test_csv(self, tmp_path: Path) -> None:
        sales = data.read(csv(tmp_path, HEADER, ROW, "1500,2,1,20,0.1,250000.5"))
        assert sales.houses.dtype == np.float32
        assert sales.houses.tolist() == [[2000, 3, 2.5, 10, 5], [1500, 2, 1, 20, float(np.float32(0.1))]]
        assert sales.prices.dtype == np.float64
        assert sales.prices.tolist() == [400_000, 250_000.5]
        assert (sales.source, sales.synthetic, sales.refused, sales.refusals) == ("sales.csv", False, 0, ())

    def test_parquet(self, tmp_path: Path) -> None:
        sales = data.read(parquet(tmp_path, PARQUET))
        assert sales.houses.tolist() == [[2000, 3, 2.5, 10, 5]] * 40
        assert sales.prices.tolist() == [400_000] * 40
        assert (sales.source, sales.refused) == ("sales.parquet", 0)

    def test_the_same_rows_have_the_same_digest_from_either(self, tmp_path: Path) -> None:
        rows = data.read(csv(tmp_path, HEADER, *[ROW] * 40))
        assert rows.sha256 == data.read(parquet(tmp_path, PARQUET)).sha256
        dearer = data.read(csv(tmp_path, HEADER, *[ROW] * 39, ROW.replace("400000", "400001")))
        older = data.read(csv(tmp_path, HEADER, *[ROW] * 39, ROW.replace(",10,", ",11,")))
        assert len({rows.sha256, dearer.sha256, older.sha256}) == 3

    def test_columns_may_come_in_any_order_and_others_are_ignored(self, tmp_path: Path) -> None:
        header = "note,price,distance_to_city,age_years,,bathrooms,bedrooms,square_feet,note,Price"
        sales = data.read(csv(tmp_path, header, '"a, ""b""",400000,5,10,,2.5,3,2000,x,1', ",4e5,5,10,,2.5,3,2000,,2"))
        assert sales.houses.tolist() == [[2000, 3, 2.5, 10, 5]] * 2
        assert sales.prices.tolist() == [400_000] * 2

    def test_other_columns_of_parquet_are_ignored(self, tmp_path: Path) -> None:
        sales = data.read(parquet(tmp_path, f"'x' note, true sold, date '2024-01-01' sold_on, {PARQUET}, [1] more"))
        assert sales.houses.tolist() == [[2000, 3, 2.5, 10, 5]] * 40

    @pytest.mark.parametrize("kind", ["tinyint", "bigint", "hugeint", "float", "double", "decimal(9, 2)", "varchar"])
    def test_numbers_of_parquet_may_have_any_type(self, tmp_path: Path, kind: str) -> None:
        sales = data.read(parquet(tmp_path, PARQUET.replace("3 bedrooms", f"3::{kind} bedrooms")))
        assert sales.houses[:, 1].tolist() == [3] * 40

    @pytest.mark.parametrize("cell", ['"2000"', "2000.0", "2e3", " 2000 ", "+2000", '"2000.00"'])
    def test_a_number_may_be_written_as_people_do(self, tmp_path: Path, cell: str) -> None:
        assert data.read(with_cell(tmp_path, "square_feet", cell)).houses[-1].tolist() == [2000, 3, 2.5, 10, 5]

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(f"{HEADER}\r\n{ROW}\r\n".encode(), id="lines of Windows"),
            pytest.param(f"\ufeff{HEADER}\n{ROW}\n".encode(), id="a byte order mark"),
            pytest.param(f"{HEADER}\n{ROW}".encode(), id="no end of the last line"),
            pytest.param(f"{HEADER}\n{ROW}\n\n\n".encode(), id="empty lines at the end"),
            pytest.param(f"{HEADER.replace(',', ', ')}\n{ROW.replace(',', ', ')}\n".encode(), id="blanks"),
            pytest.param(f'"{HEADER}"\n"{ROW}"\n'.replace(",", '","').encode(), id="everything quoted"),
        ],
    )
    def test_csv_of_any_make(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "sales.CSV"
        path.write_bytes(content)
        assert data.read(path).houses.tolist() == [[2000, 3, 2.5, 10, 5]]

    @pytest.mark.parametrize("name", ["sales[1].csv", "sales*.csv", "sale?.csv", "o'brien.csv", "sales (1).csv"])
    def test_the_file_that_was_named_is_read_and_no_other(self, tmp_path: Path, name: str) -> None:
        csv(tmp_path, HEADER, ROW.replace("2000", "1"), name="sales1.csv")
        csv(tmp_path, HEADER, ROW.replace("2000", "1"), name="sales.csv")
        assert data.read(csv(tmp_path, HEADER, ROW, name=name)).houses.tolist() == [[2000, 3, 2.5, 10, 5]]

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_the_name_of_a_folder_is_no_column(self, tmp_path: Path, ending: str) -> None:
        folder = tmp_path / "price=7"
        folder.mkdir()
        if ending == "csv":
            path = csv(folder, HEADER.removesuffix(",price"), ROW.removesuffix(",400000"))
        else:
            path = parquet(folder, PARQUET.removesuffix(", 400000 price"))
        assert "missing column price" in refused(path)


class TestRefusedRows:
    @pytest.mark.parametrize("field", COLUMNS)
    @pytest.mark.parametrize(
        "cell", ["", '""', "many", "2000 sqft", "$2000", '"2,000"', "nan", "inf", "1e999", "-1e999", "true", "null"]
    )
    def test_a_cell_that_is_no_number_is_counted_with_its_line(self, tmp_path: Path, field: str, cell: str) -> None:
        sales = data.read(with_cell(tmp_path, field, cell))
        assert sales.houses.tolist() == [[2000, 3, 2.5, 10, 5]] * 40
        shown = cell.strip('"')
        odd = f'not a number as the other cells are, such as "{shown}"'
        reason = odd if shown in {"many", "2000 sqft", "$2000", "2,000", "true"} else "missing or not a finite number"
        assert (sales.refused, sales.refusals) == (1, (Refusal(field, reason, 1, (42,)),))

    @pytest.mark.parametrize(
        ("field", "cell", "reason"),
        [
            ("square_feet", "0", "not above 0"),
            ("square_feet", "50001", "above 50,000"),
            ("bedrooms", "2.5", "not a whole number"),
            ("bedrooms", "51", "above 50"),
            ("bathrooms", "-0.25", "below 0"),
            ("age_years", "-1", "below 0"),
            ("distance_to_city", "1000.1", "above 1,000"),
            ("price", "0", "below 1"),
            ("price", "-400000", "below 1"),
            ("price", "1e300", "above 1e+10"),
        ],
    )
    def test_a_value_outside_of_its_bounds_is_counted_by_field_and_reason(
        self, tmp_path: Path, field: str, cell: str, reason: str
    ) -> None:
        assert data.read(with_cell(tmp_path, field, cell)).refusals == (Refusal(field, reason, 1, (42,)),)

    def test_the_first_five_lines_are_named(self, tmp_path: Path) -> None:
        bad = ROW.replace("2000", "many")
        sales = data.read(csv(tmp_path, HEADER, bad, bad, *[ROW] * 193, *[bad] * 5))
        assert (len(sales.prices), sales.refused) == (193, 7)
        assert list(map(str, sales.refusals)) == [
            'square_feet not a number as the other cells are, such as "many": 7 rows (line 2, 3, 197, 198, 199, ...)'
        ]

    def test_rows_of_parquet_are_counted_from_one(self, tmp_path: Path) -> None:
        path = parquet(tmp_path, PARQUET.replace("3 bedrooms", "case range when 4 then null else 3 end bedrooms"))
        assert data.read(path).refusals == (Refusal("bedrooms", "missing or not a finite number", 1, (5,)),)

    def test_a_row_that_breaks_rules_of_two_fields_is_one_row_under_two_reasons(self, tmp_path: Path) -> None:
        sales = data.read(csv(tmp_path, HEADER, *[ROW] * 40, "0,3,2.5,-1,5,400000"))
        assert (len(sales.prices), sales.refused) == (40, 1)
        assert list(map(str, sales.refusals)) == [
            "square_feet not above 0: 1 row (line 42)",
            "age_years below 0: 1 row (line 42)",
        ]

    @pytest.mark.parametrize("total", [20, 100, 60, 1_000])
    def test_exactly_5_percent_pass(self, tmp_path: Path, total: int) -> None:
        sales = data.read(csv(tmp_path, HEADER, *[ROW] * (total * 19 // 20), *["1" + "," * 5] * (total // 20)))
        assert sales.refused == total // 20

    def test_more_than_5_percent_stop_the_training_with_both_numbers(self, tmp_path: Path) -> None:
        bad = ROW.replace(",10,", ",501,")
        path = csv(tmp_path, HEADER, *[ROW] * 1_130, *[bad] * 60)
        assert refused(path) == (
            "sales.csv: 60 of 1,190 rows are refused, more than 5%: age_years above 500: 60 rows "
            "(line 1132, 1133, 1134, 1135, 1136, ...); --allow-refused 6% accepts that"
        )


class TestRefusedFiles:
    @pytest.mark.parametrize("field", COLUMNS)
    def test_a_missing_column_is_named(self, tmp_path: Path, field: str) -> None:
        rest = [name for name in COLUMNS if name != field]
        path = csv(tmp_path, ",".join(rest), "1,1,1,1,1")
        advice = f"`--rename NAME={field}` renames a column"
        assert refused(path) == f"{path}: missing column {field}; {FOUND} {', '.join(rest)}; {advice}"

    def test_a_missing_column_of_parquet_is_named(self, tmp_path: Path) -> None:
        path = parquet(tmp_path, PARQUET.replace("10 age_years", "10 age"))
        rest = "square_feet, bedrooms, bathrooms, age, distance_to_city, price"
        advice = "`--rename NAME=age_years` renames a column"
        assert refused(path) == f"{path}: missing column age_years; {FOUND} {rest}; {advice}"

    def test_a_column_that_is_there_twice_is_named(self, tmp_path: Path) -> None:
        path = csv(tmp_path, f"{HEADER},price", f"{ROW},1")
        assert refused(path) == f"{path}: column price is there more than once"

    @pytest.mark.parametrize(
        ("first", "found"),
        [
            (ROW, "numbers in the first line, which must hold the names; `--rename NAME=square_feet` renames a column"),
            ('[{"price": 3}]', '[{"price": 3}]; `--rename NAME=square_feet` renames a column'),
            (
                HEADER.upper(),
                HEADER.upper().replace(",", ", ")
                + f"; `--rename {','.join(f'{name.upper()}={name}' for name in COLUMNS)}` renames what is there",
            ),
        ],
    )
    def test_a_first_line_that_names_no_columns_is_shown_unless_it_is_a_row(
        self, tmp_path: Path, first: str, found: str
    ) -> None:
        path = csv(tmp_path, first, ROW)
        assert refused(path) == f"{path}: missing column {', '.join(COLUMNS)}; {FOUND} {found}"

    @pytest.mark.parametrize(("separator", "kind"), [(";", "semicolons"), ("\t", "tabs"), ("|", "|")])
    def test_other_separators_than_commas_are_told(self, tmp_path: Path, separator: str, kind: str) -> None:
        path = csv(tmp_path, HEADER.replace(",", separator), ROW.replace(",", separator))
        told = f"cells must be separated by commas, found {kind}; save the file as CSV with commas"
        assert refused(path) == f"{path}: {told}"

    def test_a_long_first_line_is_shortened(self, tmp_path: Path) -> None:
        path = csv(tmp_path, "a " * 10_000, ROW)
        assert len(refused(path)) < len(str(path)) + 600
        assert " a a [...]; `--rename" in refused(path)

    @pytest.mark.parametrize("line_end", ["", "\n"])
    def test_a_header_alone_has_no_rows(self, tmp_path: Path, line_end: str) -> None:
        path = tmp_path / "sales.csv"
        path.write_text(HEADER + line_end)
        assert refused(path) == "sales.csv: no rows"

    def test_parquet_without_rows_has_no_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "sales.parquet"
        with duckdb.connect() as connection:
            connection.sql(f"select {PARQUET} limit 0").write_parquet(str(path))
        assert refused(path) == "sales.parquet: no rows"

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_an_empty_file(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"sales.{ending}"
        path.touch()
        assert refused(path) == f"{path}: the file is empty"

    def test_csv_that_is_named_parquet(self, tmp_path: Path) -> None:
        path = csv(tmp_path, HEADER, ROW, name="sales.parquet")
        assert refused(path) == f"{path}: the content does not match the file name: it is not Parquet"

    def test_parquet_that_is_named_csv(self, tmp_path: Path) -> None:
        path = parquet(tmp_path, PARQUET).rename(tmp_path / "sales.csv")
        assert refused(path) == f"{path}: the content does not match the file name: it is not CSV text"

    def test_parquet_that_is_cut_off(self, tmp_path: Path) -> None:
        path = parquet(tmp_path, PARQUET)
        path.write_bytes(path.read_bytes()[:-10])
        assert refused(path).startswith(f"{path}: cannot be read as Parquet: ")

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", id="an image"),
            pytest.param(gzip.compress(f"{HEADER}\n{ROW}\n".encode(), mtime=0), id="compressed"),
            pytest.param(f"{HEADER}\n{ROW}\n".encode("utf-16"), id="UTF-16"),
            pytest.param(bytes(range(128, 256)) * 20, id="bytes that are no text"),
        ],
    )
    def test_binary_content_that_is_named_csv(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "sales.csv"
        path.write_bytes(content)
        assert "the content does not match the file name: it is not CSV text" in refused(path)

    @pytest.mark.parametrize(
        ("name", "ending"),
        [("sales.xlsx", ".xlsx"), ("sales.csv.gz", ".gz"), ("sales", "no ending"), (".csv", "no ending")],
    )
    def test_a_wrong_ending(self, tmp_path: Path, name: str, ending: str) -> None:
        path = csv(tmp_path, HEADER, ROW, name=name)
        assert refused(path) == f"{path}: expected .csv, .parquet, .jsonl, .ndjson or .duckdb, got {ending}"

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_a_file_that_is_not_there(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"sales.{ending}"
        assert refused(path) == f"{path}: cannot be read: No such file or directory"

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_a_directory(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"sales.{ending}"
        path.mkdir()
        assert refused(path) == f"{path}: cannot be read: Is a directory"

    @pytest.mark.parametrize(
        ("line", "reason"),
        [("2000,3", "the row has 2 cells, expected 6"), (f"{ROW},7,8", "the row has 8 cells, expected 6")],
    )
    def test_a_line_of_another_shape_costs_itself(self, tmp_path: Path, line: str, reason: str) -> None:
        sales = data.read(csv(tmp_path, HEADER, *[ROW] * 40, line))
        assert (len(sales.prices), list(map(str, sales.refusals))) == (40, [f"{reason}: 1 row (line 42)"])

    @pytest.mark.parametrize("after", [[], [ROW] * 3, ['2000,3,"x",1,1,1']])
    def test_a_quote_that_is_not_closed_refuses_the_file_with_the_line_where_it_begins(
        self, tmp_path: Path, after: list[str]
    ) -> None:
        path = csv(tmp_path, HEADER, *[ROW] * 40, f'"{ROW}', *after)
        assert refused(path) == f'{path}: line 42: a quote (") is opened and not closed; close it, or remove it'

    @pytest.mark.parametrize("field", COLUMNS)
    def test_a_column_of_booleans(self, tmp_path: Path, field: str) -> None:
        values = PARQUET.replace(f" {field}", f" > 0 {field}")
        path = parquet(tmp_path, values)
        assert refused(path) == f"{path.name}: column {field} holds booleans, expected numbers"

    @pytest.mark.parametrize(
        ("other", "reason"),
        [
            ("date '2024-01-01'", 'not a number, such as "2024-01-01"'),
            ("'many'", 'not a number, such as "many"'),
            ("[10]", "missing or "),
            ("null", "missing or "),
        ],
    )
    def test_a_column_of_something_else_holds_no_numbers(self, tmp_path: Path, other: str, reason: str) -> None:
        path = parquet(tmp_path, PARQUET.replace("10 age_years", f"{other} age_years"))
        assert refused(path).startswith(f"sales.parquet: 40 of 40 rows are refused, more than 5%: age_years {reason}")


class TestTheSyntheticMarket:
    def test_it_says_what_it_is(self) -> None:
        sales = data.synthetic(seed=0, rows=10)
        assert (sales.synthetic, sales.source) == (True, "synthetic market (made up, not real sales)")

    def test_every_row_is_accepted(self) -> None:
        sales = data.synthetic(seed=0)
        assert (len(sales.prices), sales.refused, sales.houses.shape) == (market.ROWS, 0, (market.ROWS, len(FEATURES)))

    def test_one_seed_makes_one_market(self) -> None:
        def digest(seed: int) -> str:
            return data.synthetic(seed, rows=100).sha256

        assert digest(0) == digest(0) != digest(1)


def test_what_is_accepted_stays_in_order() -> None:
    columns = {name: np.arange(1, 101, dtype=np.float64) % 50 for name in FEATURES}
    columns |= {"square_feet": np.arange(1, 101, dtype=np.float64), "price": np.arange(1, 101, dtype=np.float64)}
    columns["age_years"][[10, 20]] = math.nan
    sales: Sales = data.accept(columns, "x", synthetic=False, first_line=1)
    kept = [n for n in range(1, 101) if n not in {11, 21}]
    assert sales.houses[:, 0].tolist() == sales.prices.tolist() == kept


def json_lines(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "sales.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


GOOD_LINE = (
    '{"square_feet": 2000, "bedrooms": 3, "bathrooms": 2.5, "age_years": 10, "distance_to_city": 5, "price": 4e5}'
)


class TestJsonLines:
    def test_each_line_is_a_row_and_other_keys_are_ignored(self, tmp_path: Path) -> None:
        other = GOOD_LINE.replace("{", '{"built": {"year": 2014}, ').replace("2000", "1500.5")
        sales = data.read(json_lines(tmp_path, GOOD_LINE, "", other))
        assert sales.houses.tolist() == [[2000, 3, 2.5, 10, 5], [1500.5, 3, 2.5, 10, 5]]
        assert sales.prices.tolist() == [400_000, 400_000]

    def test_the_same_rows_have_the_same_digest_as_from_csv(self, tmp_path: Path) -> None:
        rows = data.read(csv(tmp_path, HEADER, *[ROW] * 3)), data.read(json_lines(tmp_path, *[GOOD_LINE] * 3))
        assert rows[0].sha256 == rows[1].sha256

    @pytest.mark.parametrize("value", ['"2000"', "true", "null", "[2000]", "{}", "NaN", "1e999", '""'])
    def test_what_is_no_number_is_a_refused_row(self, tmp_path: Path, value: str) -> None:
        bad = GOOD_LINE.replace("2000", value)
        sales = data.read(json_lines(tmp_path, *[GOOD_LINE] * 40, bad))
        assert (len(sales.prices), sales.refused) == (40, 1)
        assert [(refusal.field, refusal.first_lines) for refusal in sales.refusals] == [("square_feet", (41,))]

    def test_a_key_that_one_line_lacks_is_a_refused_row(self, tmp_path: Path) -> None:
        sales = data.read(json_lines(tmp_path, *[GOOD_LINE] * 40, GOOD_LINE.replace("price", "prize")))
        assert [(refusal.field, refusal.rows) for refusal in sales.refusals] == [("price", 1)]

    def test_a_key_that_every_line_lacks_is_named(self, tmp_path: Path) -> None:
        message = refused(json_lines(tmp_path, *[GOOD_LINE.replace("price", "prize")] * 3))
        assert f"missing column price; expected {', '.join(COLUMNS)}; found " in message

    @pytest.mark.parametrize(
        "line",
        [
            GOOD_LINE[:-1],
            f"[{GOOD_LINE}]",
            GOOD_LINE.replace("bedrooms", "square_feet"),
            GOOD_LINE + GOOD_LINE,
            "{",
            "null",
            "[" * 100_000,
        ],
    )
    def test_a_line_that_is_no_object_costs_itself_and_is_not_shown(self, tmp_path: Path, line: str) -> None:
        sales = data.read(json_lines(tmp_path, *[GOOD_LINE] * 20, "", line, *[GOOD_LINE] * 20))
        assert len(sales.prices) == 40
        assert list(map(str, sales.refusals)) == ["the line is not a JSON object: 1 row (line 22)"]

    def test_lines_that_are_no_objects_refuse_the_file_together(self, tmp_path: Path) -> None:
        message = refused(json_lines(tmp_path, GOOD_LINE, "{"))
        assert message.startswith("sales.jsonl: 1 of 2 rows are refused, more than 5%: the line is not a JSON object")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "sales.ndjson"
        path.touch()
        assert refused(path) == f"{path}: the file is empty"


def database(tmp_path: Path, *statements: str) -> Path:
    path = tmp_path / "sales.duckdb"
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


TABLE = f"create table sales as select {PARQUET} from range(40)"  # noqa: S608 -- our own
BOOLEANS = PARQUET.replace("400000", "true")
NO_NUMBERS = f"create table others as select {BOOLEANS} from range(40)"  # noqa: S608 -- our own


class TestDatabases:
    def test_the_only_table_needs_no_name(self, tmp_path: Path) -> None:
        sales = data.read(database(tmp_path, TABLE))
        assert (len(sales.prices), sales.source, sales.prices[0]) == (40, "sales.duckdb", 400_000)

    @pytest.mark.parametrize(
        "query",
        [
            "sales",
            "select * from sales",
            "from sales where price > 1;",
            " select *, 1 as other from sales order by price ",
            "select * from sales -- all of them",
            "with dear as (select * from sales where price > 1) select * from dear;",
        ],
    )
    def test_a_table_is_named_or_rows_are_selected(self, tmp_path: Path, query: str) -> None:
        path = database(tmp_path, TABLE, NO_NUMBERS)
        assert data.read(path, query).prices.tolist() == [400_000] * 40

    def test_a_table_may_have_any_name(self, tmp_path: Path) -> None:
        path = database(tmp_path, TABLE.replace("table sales", 'table "a ""b"" c"'), NO_NUMBERS)
        assert len(data.read(path, 'a "b" c').prices) == 40

    def test_of_several_tables_one_must_be_chosen(self, tmp_path: Path) -> None:
        message = refused(database(tmp_path, TABLE, NO_NUMBERS))
        assert message.endswith("expected one table, found others, sales; choose by --query")

    def test_without_a_table(self, tmp_path: Path) -> None:
        assert refused(database(tmp_path)).endswith("expected one table, found none; choose by --query")

    @pytest.mark.parametrize(
        ("query", "told"),
        [
            ("select nothing from sales", 'Referenced column "nothing" not found'),
            ("select 1 as price from sales", "missing column square_feet"),
            ("others", "column price holds booleans, expected numbers"),
            ("nowhere", "Table with name nowhere does not exist"),
            ("drop table sales", "syntax error"),
            ("sales); drop table sales; --", "syntax error"),
            ("sales); drop table sales; from (sales", "the query holds 3 statements, expected one select"),
            ("sales); create temp table t as (select 1", "the query holds 2 statements, expected one select"),
            ("select * from read_csv('/etc/passwd')", "file system operations are disabled by configuration"),
        ],
    )
    def test_a_query_that_gives_no_sales_is_told_and_can_do_no_harm(
        self, tmp_path: Path, query: str, told: str
    ) -> None:
        path = database(tmp_path, TABLE, NO_NUMBERS)
        assert told in refused(path, query)
        assert len(data.read(path, "sales").prices) == 40

    @pytest.mark.parametrize(
        ("statement", "told"),
        [
            ("drop table sales", "read-only mode"),
            ("copy sales to '{folder}/sales.csv'", "file system operations are disabled by configuration"),
            ("attach '{folder}/other.duckdb'", "file system operations are disabled by configuration"),
            ("set memory_limit = '1GB'", "the configuration has been locked"),
        ],
    )
    def test_a_statement_that_got_past_the_parser_could_do_no_harm_either(
        self, tmp_path: Path, statement: str, told: str
    ) -> None:
        path = database(tmp_path, TABLE)
        with tables._database(path) as run, pytest.raises(DataError, match=told):
            run(statement.format(folder=tmp_path))
        assert [found.name for found in tmp_path.iterdir()] == ["sales.duckdb"]

    def test_the_database_is_not_changed(self, tmp_path: Path) -> None:
        path = database(tmp_path, TABLE)
        before = path.read_bytes()
        data.read(path)
        assert path.read_bytes() == before
        assert [found.name for found in tmp_path.iterdir()] == ["sales.duckdb"]

    def test_a_query_of_anything_else_is_refused(self, tmp_path: Path) -> None:
        message = refused(csv(tmp_path, HEADER, ROW), "select 1")
        assert message.endswith("a query needs a file that ends in .duckdb, got .csv")

    @pytest.mark.parametrize("content", [b"no database", b"\0" * 4096, b"PAR1"])
    def test_what_is_no_database(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "sales.duckdb"
        path.write_bytes(content)
        assert refused(path).endswith("it is not a DuckDB database")

    def test_a_database_that_is_cut_off(self, tmp_path: Path) -> None:
        path = database(tmp_path, TABLE)
        path.write_bytes(path.read_bytes()[:3000])
        assert "cannot be opened: " in refused(path)
