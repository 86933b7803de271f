"""A part of a file as a table in DuckDB, and what the version reads of it.

* The table `part` has all columns under their new names, in the order of the rows.
* A value is valid if it is valid in a request: a number is finite and within its bounds. In a text, an empty cell, or
  a word for one such as NA, is unknown.
* A row that is not valid is refused by itself, with every reason.
"""

import csv
import glob
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.columns import LARGEST, MAX_TEXT, OptionalColumn, RowReader, category_of
from pricing.house import FEATURES, Column
from score.plan import Plan
from score.sources import JSON, TEXT, FilePart, kind_of
from train.errors import DataError
from train.sales.numbers import MISSING
from train.sales.tables import json_object

_NUMERIC: Final = re.compile(r"U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)")
NOT_A_NUMBER: Final = "not a number"
Refused = tuple[int, str]
"""A line, and why it is refused."""


@dataclass
class Batch:
    """The rows of a part: those of the table `part`, and those that could not be read."""

    lines: NDArray[np.int64]
    """Of each row of the table, of shape (n,)."""
    fields: dict[str, Column]
    """The five fields, each of shape (n,); NaN is refused."""
    further: list[Column]
    """The columns of the version, each of shape (n,); NaN is unknown."""
    reasons: dict[int, list[str]] = field(default_factory=dict)
    """By row, why it is refused."""
    broken: list[Refused] = field(default_factory=list)

    def refuse(self, mask: NDArray[np.bool_], reason: str) -> None:
        """Refuse the rows of a mask of shape (n,)."""
        for row in np.flatnonzero(mask).tolist():
            self.reasons.setdefault(row, []).append(reason)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def read(connection: duckdb.DuckDBPyConnection, plan: Plan, part: FilePart, columns: Sequence[OptionalColumn]) -> Batch:
    """Make the table `part`, and read the five fields and the columns of the version. Raises DataError."""
    if plan.kind == "json":
        return _read_json(connection, plan, part, columns)
    if plan.kind == "csv":
        lines, broken = _read_csv(connection, plan, part)
    else:
        lines, broken = _read_parquet(connection, plan, part), []
    types = {plan.new_name(column.name): column.type for column in plan.columns}
    batch = Batch(lines, {}, [], broken=broken)
    for name in FEATURES:
        batch.fields[name] = _number(connection, name, types[name]) * plan.order.units.get(name, 1)
    for column in columns:
        batch.further.append(_further(connection, plan, batch, column, types))
    return batch


def _create(connection: duckdb.DuckDBPyConnection, plan: Plan, relation: str) -> None:
    names = ", ".join(f"{quoted(column.name)} as {quoted(plan.new_name(column.name))}" for column in plan.columns)
    connection.execute(f"create or replace temp table part as select {names} from {relation}")  # noqa: S608 -- quoted


def _read_parquet(connection: duckdb.DuckDBPyConnection, plan: Plan, part: FilePart) -> NDArray[np.int64]:
    path = literal(glob.escape(plan.order.sources[part.source].path))
    options = "hive_partitioning = false, file_row_number = true"
    rows = f"file_row_number >= {part.start} and file_row_number < {part.stop}"
    _create(connection, plan, f"read_parquet({path}, {options}) where {rows}")
    return np.arange(part.start + 1, part.stop + 1)


def _bytes(plan: Plan, part: FilePart) -> bytes:
    with open(plan.order.sources[part.source].path, "rb") as file:  # noqa: PTH123 -- as the plan has it
        file.seek(part.start)
        return file.read(part.stop - part.start)


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """The path of a file in memory, in SQL."""
    handle = os.memfd_create("part")
    try:
        with open(handle, "wb", closefd=False) as file:
            file.write(data)
        yield literal(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def _read_csv(
    connection: duckdb.DuckDBPyConnection, plan: Plan, part: FilePart
) -> tuple[NDArray[np.int64], list[Refused]]:
    data = _bytes(plan, part)
    encoding = plan.encodings[part.source]
    if encoding != "utf-8":
        data = data.decode(encoding, errors="replace").encode()
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    clean, lines, broken = (_with_quotes if b'"' in data else _plain)(data, part.line, len(plan.columns))
    with _in_memory(clean) as path:
        types = ", ".join(f"{literal(column.name)}: 'VARCHAR'" for column in plan.columns)
        format_ = "header = false, auto_detect = false, delim = ',', quote = '\"', escape = '\"', new_line = '\\n'"
        _create(connection, plan, f"read_csv({path}, columns = {{{types}}}, {format_}, parallel = false)")
    return lines, broken


def _plain(data: bytes, first: int, width: int) -> tuple[bytes, NDArray[np.int64], list[Refused]]:
    """The lines that have a cell for each column, if none has a quote; the line of each; and the others."""
    if not data.endswith(b"\n"):
        data += b"\n"
    characters = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    commas = np.add.reduceat(characters == ord(","), starts, dtype=np.int64)
    is_good = commas == width - 1
    is_empty = ends == starts
    lines = np.arange(first, first + len(ends))
    if is_good.all():
        return data, lines, []
    broken = [
        (int(lines[row]), _wrong_width(int(commas[row]) + 1, width)) for row in np.flatnonzero(~is_good & ~is_empty)
    ]
    good = np.repeat(is_good, ends + 1 - starts)
    return characters[good].tobytes(), lines[is_good], broken


def _with_quotes(data: bytes, first: int, width: int) -> tuple[bytes, NDArray[np.int64], list[Refused]]:
    """The same for records whose cells may have quotes, commas and line breaks."""
    reader = csv.reader(io.StringIO(data.decode(), newline=""))
    clean = io.StringIO(newline="")
    writer = csv.writer(clean, lineterminator="\n")
    lines: list[int] = []
    broken: list[Refused] = []
    line = first
    try:
        for cells in reader:
            if len(cells) == width:
                writer.writerow(cells)
                lines.append(line)
            elif cells:
                broken.append((line, _wrong_width(len(cells), width)))
            line = first + reader.line_num
    except csv.Error as error:
        msg = f"line {line}: {error}; shorten the cell, or remove its column"
        raise DataError(msg) from error
    return clean.getvalue().encode(), np.array(lines, dtype=np.int64), broken


def _wrong_width(found: int, expected: int) -> str:
    return f"the row has {found} cell{'s' * (found != 1)}, expected {expected}"


def _number(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> Column:
    """A column of the table as float64 of shape (n,); NaN where no number was read."""
    cell = quoted(name)
    if _NUMERIC.fullmatch(kind):
        number = f"cast({cell} as double)"
    elif kind == TEXT:  # DuckDB would take 1_000
        number = f"try_cast(case when contains({cell}, '_') then null else {cell} end as double)"
    else:
        number = "cast(null as double)"
    found = connection.execute(f"select {number} as number from part").fetchnumpy()["number"]  # noqa: S608 -- quoted
    values: Column = np.ma.filled(found, np.nan)
    return values


def _texts(connection: duckdb.DuckDBPyConnection, name: str) -> list[str | None]:
    """A column of the table as text; None is unknown."""
    query = f"select cast({quoted(name)} as varchar) as text from part"  # noqa: S608 -- quoted
    found = np.ma.filled(connection.execute(query).fetchnumpy()["text"].astype(object), None).tolist()
    return [None if text is None or text.strip().lower() in MISSING else text for text in found]


def _further(
    connection: duckdb.DuckDBPyConnection, plan: Plan, batch: Batch, column: OptionalColumn, types: dict[str, str]
) -> Column:
    """A column of the version of shape (n,), as RowReader reads one value of it."""
    name = column.name
    if name not in types:
        return np.full(len(batch.lines), np.nan)
    if column.kind == "category":
        return _category(batch, column, _texts(connection, name))
    values = _number(connection, name, types[name]) * plan.order.units.get(name, 1)
    is_finite = np.isfinite(values)
    if not _NUMERIC.fullmatch(types[name]):
        is_given = np.array([text is not None for text in _texts(connection, name)], dtype=np.bool_)
        batch.refuse(is_given & ~is_finite, f"{name}: {NOT_A_NUMBER}")
    values[~is_finite] = np.nan
    if column.minimum is not None:
        batch.refuse(values < column.minimum, f"{name}: below {column.minimum:,g}")
    if column.maximum is not None:
        batch.refuse(values > column.maximum, f"{name}: above {column.maximum:,g}")
    return np.clip(values, -LARGEST, LARGEST)


def _category(batch: Batch, column: OptionalColumn, texts: Sequence[str | None]) -> Column:
    codes = {category.value: category.code for category in column.categories}
    known = {text: np.nan if text is None else codes.get(category_of(text), np.nan) for text in set(texts)}
    if too_long := {text for text in known if text is not None and len(category_of(text)) > MAX_TEXT}:
        batch.refuse(np.array([text in too_long for text in texts]), f"{column.name}: above {MAX_TEXT} characters")
    return np.array([known[text] for text in texts], dtype=np.float64)


def _read_json(
    connection: duckdb.DuckDBPyConnection, plan: Plan, part: FilePart, columns: Sequence[OptionalColumn]
) -> Batch:
    good: list[bytes] = []
    lines: list[int] = []
    houses: list[dict[str, Any]] = []
    broken: list[Refused] = []
    for line, text in enumerate(_bytes(plan, part).split(b"\n"), part.line):
        if not text.strip():
            continue
        try:
            house = json_object(text, _refuse)
        except (ValueError, RecursionError):
            broken.append((line, "the line is not a JSON object"))
            continue
        houses.append({plan.new_name(name): value for name, value in house.items()})
        good.append(text)
        lines.append(line)
    with _in_memory(b"\n".join(good)) as path:
        _create(connection, plan, f"read_json({path}, columns = {{{_json_types(plan)}}}, format = 'newline_delimited')")
    fields = {name: _json_numbers(houses, name) * plan.order.units.get(name, 1) for name in FEATURES}
    batch = Batch(np.array(lines, dtype=np.int64), fields, [], broken=broken)
    batch.further = _json_columns(batch, houses, columns, plan)
    return batch


def _json_types(plan: Plan) -> str:
    """JSON lines stay as they are written; a table has a type for each column."""
    stays = kind_of(Path(plan.order.out)) == "json"
    return ", ".join(f"{literal(column.name)}: {literal(JSON if stays else column.type)}" for column in plan.columns)


def _refuse(_constant: str) -> None:
    raise ValueError


def _json_numbers(houses: Sequence[dict[str, Any]], name: str) -> Column:
    return np.array([_json_number(house.get(name)) for house in houses], dtype=np.float64)


def _json_number(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _json_columns(
    batch: Batch, houses: Sequence[dict[str, Any]], columns: Sequence[OptionalColumn], plan: Plan
) -> list[Column]:
    if not columns:
        return []
    reader = RowReader(columns)
    factors = {name: factor for name, factor in plan.order.units.items() if name not in FEATURES}
    numbers = np.full((len(houses), len(columns)), np.nan)
    for row, house in enumerate(houses):
        for name, factor in factors.items():
            if type(house.get(name)) in {int, float}:
                house[name] = _json_number(house[name]) * factor
        if problems := [f"{name}: {error}" for name, error in reader.problems(house)]:
            batch.reasons[row] = problems
        else:
            numbers[row] = reader.read(house).numbers
    return list(numbers.T)
