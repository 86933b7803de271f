"""Tables out of files: CSV, Parquet, JSON lines, and tables or queries of a DuckDB database."""

import glob
import json
import re
import stat
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from pricing.house import FEATURES
from train.errors import DataError
from train.sales import csv_text
from train.sales.table import Broken, Table

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
# A folder price=1 is not a column.
_PARQUET: Final = "read_parquet($path, hive_partitioning = false)"
_TABLES: Final = "select table_name from information_schema.tables where table_schema = 'main' order by table_name"
_SEALED: Final[dict[str, str | bool | int | float | list[str]]] = {
    "enable_external_access": "false",
    "lock_configuration": "true",
}
_NUMERIC: Final = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
_FLOATING: Final = ("FLOAT", "DOUBLE", "DECIMAL")
_NESTED: Final = ("[", "STRUCT", "MAP", "UNION", "BLOB")
BOOLEAN: Final = "BOOLEAN"
_NUMBERS: Final = re.compile(r"[\s.,:+-]*\d[\d\s.,:+-]*")  # one, several, or a date

RunQuery = Callable[[str], dict[str, NDArray[Any]]]


def read(path: Path, query: str | None = None, wanted: Collection[str] | None = COLUMNS) -> Table:
    """Read a file by the ending of its name; `query` is a table's name or a `select` for a DuckDB database.

    Only the columns that are wanted are read where that saves time; None wants all. Raises DataError with one sentence
    for whatever makes the file unusable.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        *endings, last = _KINDS
        msg = f"{path}: expected {', '.join(endings)} or {last}, got {path.suffix.lower() or 'no ending'}"
        raise DataError(msg)
    if query is not None and path.suffix.lower() != ".duckdb":
        msg = f"{path}: a query needs a file that ends in .duckdb, got {path.suffix.lower()}"
        raise DataError(msg)
    check_beginning(path, kind)
    match kind:
        case "CSV text":
            return csv_text.read(path)
        case "Parquet":
            with _memory(path) as run:
                return _cells(run, _PARQUET, wanted)
        case "JSON lines":
            return _read_json_lines(path)
        case _:
            return _read_database(path, query, wanted)


def check_beginning(path: Path, content: str) -> None:
    """Raise DataError unless a file is a regular one that begins as its content does, one of those of `_KINDS`."""
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
        encoded = " in UTF-8" if found == "binary" and content not in _MAGIC else ""
        msg = f"{path}: the content does not match the file name: it is not {content}{encoded}"
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


def _read_json_lines(path: Path) -> Table:
    """Each line is an object; another line is refused by itself."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path}: the content does not match the file name: it is not JSON lines in UTF-8"
        raise DataError(msg) from error
    if text.lstrip().startswith("["):
        msg = f"{path}: the file is a JSON array, expected an object on each line, as `jq -c '.[]'` writes them"
        raise DataError(msg)
    rows: list[dict[str, object]] = []
    lines: list[int] = []
    broken: list[Broken] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json_object(line, lambda _: None))
            lines.append(number)
        except (ValueError, RecursionError):
            broken.append(Broken("the line is not a JSON object", number))
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Table(columns, lines, tuple(broken), has_text_numbers=False)


def json_object(line: str | bytes, constant: Callable[[str], object]) -> dict[str, Any]:
    """The object of a line of JSON, with `constant` of a NaN or an Infinity, which JSON does not have.

    Raises ValueError for a line that is not an object, or that names a key twice.
    """
    found = json.loads(line, object_pairs_hook=_without_repetition, parse_constant=constant)
    if not isinstance(found, dict):
        raise ValueError  # noqa: TRY004 -- as json raises
    return found


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _read_database(path: Path, query: str | None, wanted: Collection[str] | None) -> Table:
    with _database(path) as run:
        tables = run(_TABLES)["table_name"].tolist()
        if query is None and len(tables) != 1:
            msg = f"{path}: expected one table, found {', '.join(tables) or 'none'}; choose by --query"
            raise DataError(msg)
        named = tables[0] if query is None else query.strip().rstrip(";")
        relation = _quoted(named) if named in tables else f"({named}\n)"  # which may end in a comment
        return _cells(run, relation, wanted)


def _cells(run: RunQuery, relation: str, wanted: Collection[str] | None) -> Table:
    """Numbers as numbers, everything else as text; a column of booleans is returned as such."""
    described = run(f"describe from {relation}")
    types = dict(zip(described["column_name"].tolist(), described["column_type"].tolist(), strict=True))
    chosen = {name: kind for name, kind in types.items() if wanted is None or name in wanted}
    if not chosen:
        return Table(dict.fromkeys(types, ()), ())
    # materialized: otherwise a cast may be moved into the reader of a file
    selected = ", ".join(f"{_cast(name, kind)} as {_quoted(name)}" for name, kind in chosen.items())
    found = run(f"select {selected} from {relation}")  # noqa: S608 -- quoted names, and a query that runs sealed
    columns: dict[str, Any] = dict.fromkeys(types, ())
    columns |= {name: np.ma.asarray(values).tolist() for name, values in found.items()}
    return Table(columns, range(1, 1 + len(next(iter(found.values())))))


def _cast(name: str, kind: str) -> str:
    quoted = _quoted(name)
    if kind.startswith((*_NUMERIC, *_FLOATING)) and "[" not in kind:
        return f"cast({quoted} as double)"
    if kind == BOOLEAN:
        return quoted
    return "null" if any(mark in kind for mark in _NESTED) else f"cast({quoted} as varchar)"


@contextmanager
def _memory(path: Path) -> Iterator[RunQuery]:
    """Queries whose $path is the file."""
    parameters = {"path": glob.escape(str(path))}  # else sales[1].parquet would read sales1.parquet
    with duckdb.connect() as connection:
        yield lambda query: _run(path, connection, query, parameters)


@contextmanager
def _database(path: Path) -> Iterator[RunQuery]:
    """Queries of the database, which can neither write nor look at any other file."""
    try:
        connection = duckdb.connect(str(path), read_only=True, config=_SEALED)
    except duckdb.Error as error:
        msg = f"{path}: cannot be opened: {_told(error)}"
        raise DataError(msg) from error
    with connection:
        yield lambda query: _run(path, connection, query, {})


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
    """DuckDB's account on one line, without its advice on options and without an echo of the query."""
    account = str(error).removeprefix("Invalid Input Error: ")
    lines = account.partition("\nPossible")[0].partition("\nLINE ")[0].splitlines()
    return "; ".join(line for line in lines if line)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def shortened(names: Collection[str]) -> str:
    """The names of columns in a message, which prints no row of a file without a header."""
    if any(map(_NUMBERS.fullmatch, names)):
        return "numbers in the first line, which must hold the names"
    return textwrap.shorten(", ".join(names), 300) or "an empty line"
