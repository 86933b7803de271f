"""Columns of numbers out of files: CSV, Parquet, JSON lines, and tables or queries of a DuckDB database."""

import csv
import glob
import re
import stat
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from pricing.house import FEATURES, Column
from train.errors import DataError

PRICE: Final = "price"
COLUMNS: Final = (*FEATURES, PRICE)

_KINDS: Final = {
    ".csv": "CSV text",
    ".parquet": "Parquet",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".duckdb": "a DuckDB database",
}
# The first bytes of files that are not text.
_MAGIC: Final[dict[str, Callable[[bytes], bool]]] = {
    "Parquet": lambda beginning: beginning.startswith(b"PAR1"),
    "a DuckDB database": lambda beginning: beginning[8:12] == b"DUCK",
    "binary": lambda beginning: b"\0" in beginning,
}
# Nothing is guessed: DuckDB's sniffer skips lines that do not fit the rest, and takes a folder price=1 for a column.
# Every cell is text: one that is not a number is a refused row with a line number, not a failed reading.
_CSV: Final = (
    "read_csv($path, columns = $columns, auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', "
    "strict_mode = true, hive_partitioning = false)"
)
_PARQUET: Final = "read_parquet($path, hive_partitioning = false)"
_JSON_LINES: Final = (
    "read_json($path, columns = $columns, auto_detect = false, format = 'newline_delimited', hive_partitioning = false)"
)
_TABLES: Final = "select table_name from information_schema.tables where table_schema = 'main' order by table_name"
_SEALED: Final[dict[str, str | bool | int | float | list[str]]] = {
    "enable_external_access": "false",
    "lock_configuration": "true",
}
_NUMBER: Final = 'try_cast("{0}" as double)'
# "2" in quotes and true are not numbers, as in the contract
_JSON_NUMBER: Final = (
    """case when json_type("{0}") in ('BIGINT', 'UBIGINT', 'DOUBLE') then try_cast("{0}" as double) end"""
)
_JSON_ERROR: Final = re.compile(
    r"in line (\d+): (?:Object .* has )?([^:\[{]+?)(?:[.:,]? *$|[:\[{]|, but| Try |\. )", re.MULTILINE
)
NO_OPTIONS: Final[dict[str, dict[str, str]]] = {}

RunQuery = Callable[[str, dict[str, dict[str, str]]], dict[str, NDArray[Any]]]


class Table(NamedTuple):
    """Each of COLUMNS as float64 of shape (n,), NaN for a cell without a number, and the line of the first row."""

    columns: dict[str, Column]
    first_line: int


def read(path: Path, query: str | None = None) -> Table:
    """Read a file by the ending of its name; `query` is a table's name or a `select` for a DuckDB database.

    Raises DataError with one sentence for whatever is not as it should be.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        *endings, last = _KINDS
        msg = f"{path}: expected {', '.join(endings)} or {last}, got {path.suffix.lower() or 'no ending'}"
        raise DataError(msg)
    if query is not None and path.suffix.lower() != ".duckdb":
        msg = f"{path}: a query needs a file that ends in .duckdb, got {path.suffix.lower()}"
        raise DataError(msg)
    _check_beginning(path, kind)
    match kind:
        case "CSV text":
            return Table(_read_csv(path), first_line=2)
        case "Parquet":
            return Table(_read_parquet(path), first_line=1)
        case "JSON lines":
            return Table(_read_json_lines(path), first_line=1)
        case _:
            return Table(_read_database(path, query), first_line=1)


def _check_beginning(path: Path, content: str) -> None:
    try:
        _check_name_and_type(path)
        with path.open("rb") as file:
            beginning = file.read(4096)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise DataError(msg) from error
    if not beginning:
        msg = f"{path}: the file is empty"
        raise DataError(msg)
    found = next((kind for kind, is_it in _MAGIC.items() if is_it(beginning)), "text")
    if found != (content if content in _MAGIC else "text"):
        msg = f"{path}: the content does not match the file name: it is not {content}"
        raise DataError(msg)


def _check_name_and_type(path: Path) -> None:
    """DuckDB takes only names in UTF-8. A pipe or a device may block for good, and can be read only once."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        msg = f"{path}: the name is not valid UTF-8; rename the file"
        raise DataError(msg) from error
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder has a sentence of its own
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        msg = f"{path}: expected a regular file, got {kinds[stat.S_IFMT(mode)]}; write its content to a file first"
        raise DataError(msg)


def _read_csv(path: Path) -> dict[str, Column]:
    names = _header(path)
    _check_columns(path, dict.fromkeys(names, "VARCHAR"))
    columns = {name if name in COLUMNS else f"ignored {number}": "VARCHAR" for number, name in enumerate(names)}
    with _memory(path) as run:
        return _numbers(run, _CSV, {"columns": columns})


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = [name.strip() for name in next(csv.reader(file), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: the content does not match the file name: it is not CSV text in UTF-8"
        raise DataError(msg) from error
    if len(names) == 1 and {";", "\t", "|"} & set(names[0]):
        msg = f"{path}: cells must be separated by commas"
        raise DataError(msg)
    for name in COLUMNS:
        if names.count(name) > 1:
            msg = f"{path}: column {name} is there {names.count(name)} times"
            raise DataError(msg)
    return names


def _read_parquet(path: Path) -> dict[str, Column]:
    with _memory(path) as run:
        _check_types(path, run, _PARQUET)
        return _numbers(run, _PARQUET)


def _read_json_lines(path: Path) -> dict[str, Column]:
    with _memory(path) as run:
        found = _numbers(run, _JSON_LINES, {"columns": dict.fromkeys(COLUMNS, "JSON")}, _JSON_NUMBER)
    if missing := [name for name in COLUMNS if len(found[name]) and np.isnan(found[name]).all()]:
        msg = f"{path}: no line has a number as {', '.join(missing)}; expected {', '.join(COLUMNS)} in each"
        raise DataError(msg)
    return found


def _read_database(path: Path, query: str | None) -> dict[str, Column]:
    with _database(path) as run:
        tables = run(_TABLES, {})["table_name"].tolist()
        if query is None and len(tables) != 1:
            msg = f"{path}: expected one table, found {', '.join(tables) or 'none'}; choose by --query"
            raise DataError(msg)
        wanted = tables[0] if query is None else query.strip().rstrip(";")
        relation = _quoted(wanted) if wanted in tables else f"({wanted}\n)"  # which may end in a comment
        _check_types(path, run, relation)
        return _numbers(run, relation)


def _check_types(path: Path, run: RunQuery, relation: str) -> None:
    described = run(f"describe from {relation}", {})
    _check_columns(path, dict(zip(described["column_name"], described["column_type"], strict=True)))


def _numbers(
    run: RunQuery, relation: str, options: dict[str, dict[str, str]] = NO_OPTIONS, number: str = _NUMBER
) -> dict[str, Column]:
    """The contract's columns as float64, NaN where a cell is missing or not a number."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    numbers = ", ".join(f'{number.format(name)} as "{name}"' for name in COLUMNS)
    # materialized: otherwise DuckDB moves the cast into its reader of CSV, where the first text ends the reading
    query = f"with cells as materialized (select {names} from {relation}) select {numbers} from cells"  # noqa: S608 -- our own names
    found = run(query, options)
    return {name: np.ma.filled(np.ma.asarray(found[name], dtype=np.float64), np.nan) for name in COLUMNS}


@contextmanager
def _memory(path: Path) -> Iterator[RunQuery]:
    """Queries whose $path is the file."""
    parameters = {"path": glob.escape(str(path))}  # else sales[1].csv would read sales1.csv
    with duckdb.connect() as connection:
        yield lambda query, options: _run(path, connection, query, {**parameters, **options})


@contextmanager
def _database(path: Path) -> Iterator[RunQuery]:
    """Queries of the database, which can neither write nor look at any other file."""
    try:
        connection = duckdb.connect(str(path), read_only=True, config=_SEALED)
    except duckdb.Error as error:
        msg = f"{path}: cannot be opened: {_told(error)}"
        raise DataError(msg) from error
    with connection:
        yield lambda query, options: _run(path, connection, query, options)


def _run(
    path: Path, connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object]
) -> dict[str, NDArray[Any]]:
    try:
        statements = len(connection.extract_statements(query))
        if statements == 1:
            return connection.execute(query, parameters).fetchnumpy()
    except duckdb.Error as error:
        msg = f"{path}: cannot be read as {_KINDS[path.suffix.lower()]}: {_told(error)}"
        raise DataError(msg) from error
    msg = f"{path}: the query holds {statements} statements, expected one select"
    raise DataError(msg)


def _told(error: duckdb.Error) -> str:
    """DuckDB's account on one line, without its advice on options and without an echo of the file."""
    account = str(error).removeprefix("Invalid Input Error: ")
    if json := _JSON_ERROR.search(account):
        line = int(json[1]) - account.startswith("Malformed JSON")  # which DuckDB counts from two
        return f"line {line}: {json[2]}"
    lines = account.partition("\nPossible")[0].partition("\nLINE ")[0].splitlines()
    return "; ".join(line for line in lines if line and not line.startswith("Original Line"))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _check_columns(path: Path, types: dict[str, str]) -> None:
    missing = [name for name in COLUMNS if name not in types]
    if missing:
        found = textwrap.shorten(", ".join(types), 300) or "an empty line"
        msg = f"{path}: missing column {', '.join(missing)}; expected {', '.join(COLUMNS)}; found {found}"
        raise DataError(msg)
    for name in COLUMNS:
        if types[name] == "BOOLEAN":
            msg = f"{path}: column {name} holds booleans, expected numbers"
            raise DataError(msg)
