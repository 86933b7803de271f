"""The files to price: their kind, their columns, and the parts that they are divided into.

* A part of a text is a range of bytes that ends where a record ends. A part of a Parquet file is a range of rows.
* A line break within quotes does not end a record.
* All files have the same columns.
"""

import codecs
import csv
import glob
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

import duckdb
import numpy as np
import orjson

from pricing.format import Part
from train.errors import DataError
from train.sales.tables import check_beginning, shortened

Kind = Literal["csv", "parquet", "json"]
KINDS: Final[dict[str, Kind]] = {".csv": "csv", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json"}
_CONTENTS: Final = {"csv": "CSV text", "parquet": "Parquet", "json": "JSON lines"}
TEXT: Final = "VARCHAR"
JSON: Final = "JSON"
_BLOCK: Final = 8 * 1024 * 1024
_LINE_BREAK: Final = ord("\n")
_QUOTE: Final = ord('"')
_TYPES: Final[dict[frozenset[type], str]] = {
    frozenset({str}): TEXT,
    frozenset({bool}): "BOOLEAN",
    frozenset({int}): "BIGINT",
    frozenset({float}): "DOUBLE",
    frozenset({int, float}): "DOUBLE",
}
_LARGEST: Final = 2**63


class Source(Part):
    """A file as it was when the plan was made."""

    path: str
    size: int
    modified: int
    """Nanoseconds of the Unix time."""


class FilePart(Part):
    """A range of a file: bytes of a text, rows of a Parquet file."""

    source: int
    start: int
    stop: int
    line: int
    """The line of its first record, or the number of its first row, from 1."""
    rows: int
    """About how many; exact unless a text has empty lines, or line breaks in cells."""


class NamedColumn(Part):
    """A column and DuckDB's name of its type."""

    name: str
    type: str


class Contents(NamedTuple):
    """The columns and the parts of a file."""

    columns: tuple[NamedColumn, ...]
    parts: list[FilePart]
    encoding: str = "utf-8"


def find(patterns: Sequence[str]) -> list[Path]:
    """The files of names and globs, each once: the files of a glob in the order of their names. Raises DataError."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 -- also of absolute paths
        if not names:
            msg = f"{pattern}: file not found"
            raise DataError(msg)
        found |= dict.fromkeys(Path(name).resolve() for name in names)
    return list(found)


def kind_of(path: Path) -> Kind:
    """The kind of a file by the ending of its name. Raises DataError."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        *endings, last = KINDS
        msg = f"{path}: expected {', '.join(endings)} or {last}, got {path.suffix.lower() or 'no ending'}"
        raise DataError(msg)
    return kind


def look(path: Path) -> Source:
    """The file as it is now. Raises DataError."""
    check_beginning(path, _CONTENTS[kind_of(path)])
    found = path.stat()
    return Source(path=str(path), size=found.st_size, modified=found.st_mtime_ns)


def inspect(path: Path, number: int, rows: int) -> Contents:
    """The columns of a file, and its parts of so many rows; `number` is its place among the files. Raises DataError."""
    inspectors = {"csv": _inspect_csv, "parquet": _inspect_parquet, "json": _inspect_json}
    return inspectors[kind_of(path)](path, number, rows)


def _inspect_parquet(path: Path, number: int, rows: int) -> Contents:
    name = glob.escape(str(path))
    try:
        with duckdb.connect() as connection:
            described = connection.execute(
                "describe from read_parquet($path, hive_partitioning = false)", {"path": name}
            ).fetchall()
            ((total,),) = connection.execute(
                "select num_rows from parquet_file_metadata($path)", {"path": name}
            ).fetchall()
    except duckdb.Error as error:
        msg = f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}"
        raise DataError(msg) from error
    columns = tuple(NamedColumn(name=name, type=kind) for name, kind, *_ in described)
    starts = range(0, total, rows)
    parts = [
        FilePart(
            source=number,
            start=start,
            stop=min(start + rows, total),
            line=start + 1,
            rows=min(rows, total - start),
        )
        for start in starts
    ]
    return Contents(columns, parts)


def _inspect_csv(path: Path, number: int, rows: int) -> Contents:
    encoding = _encoding(path)
    with path.open("rb") as file:
        start = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
        file.seek(start)
        header = next(_cuts(file, path, 1))
        file.seek(start)
        text = file.read(header.stop - start).decode(encoding)
        names = [name.strip() for name in next(csv.reader(io.StringIO(text), skipinitialspace=True), [])]
        if repeated := [name for name in names if names.count(name) > 1]:
            msg = f"{path}: column {repeated[0]} is there more than once"
            raise DataError(msg)
        cuts = list(_cuts(file, path, rows, header.line))
    columns = tuple(NamedColumn(name=name, type=TEXT) for name in names)
    return Contents(columns, _parts(number, header, cuts), encoding)


def _encoding(path: Path) -> str:
    """UTF-8, or the Western European encoding of Windows if it is not valid."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    try:
        with path.open("rb") as file:
            for block in iter(partial(file.read, _BLOCK), b""):
                decode(block)
            decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


class _Cut(NamedTuple):
    """Where a part ends, and the line that begins there."""

    stop: int
    line: int


def _parts(number: int, begin: _Cut, cuts: Sequence[_Cut]) -> list[FilePart]:
    return [
        FilePart(source=number, start=start, stop=stop, line=line, rows=next_line - line)
        for (start, line), (stop, next_line) in zip((begin, *cuts), cuts, strict=False)
        if stop > start
    ]


def _cuts(file: BinaryIO, path: Path, rows: int, line: int = 1) -> Iterator[_Cut]:
    """The end of each run of so many records from where the file stands, and the end of the file.

    A quote opens or closes: it is odd or even. Raises DataError if the last one is not closed.
    """
    offset, held, quotes_before = file.tell(), 0, 0
    last = b"\n"
    for block in iter(partial(file.read, _BLOCK), b""):
        characters = np.frombuffer(block, dtype=np.uint8)
        breaks = np.flatnonzero(characters == _LINE_BREAK)
        quotes = np.flatnonzero(characters == _QUOTE)
        ends = np.flatnonzero((np.searchsorted(quotes, breaks) + quotes_before) % 2 == 0)
        for place in ends[rows - held - 1 :: rows].tolist():
            yield _Cut(offset + int(breaks[place]) + 1, line + place + 1)
        held = (held + len(ends)) % rows
        quotes_before += len(quotes)
        line += len(breaks)
        offset += len(block)
        last = block[-1:]
    if quotes_before % 2:
        msg = f'{path}: a quote (") is opened and not closed; close it, or double a quote that is part of a cell'
        raise DataError(msg)
    yield _Cut(offset, line + (last != b"\n"))


def _inspect_json(path: Path, number: int, rows: int) -> Contents:
    found: dict[str, set[type]] = {}
    cuts: list[_Cut] = []
    offset = line = 0
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            offset += len(text)
            _collect(text, found)
            if line == 1 and text.lstrip().startswith(b"["):
                msg = f"{path}: the file is a JSON array, expected an object on each line, as `jq -c '.[]'` writes them"
                raise DataError(msg)
            if line % rows == 0:
                cuts.append(_Cut(offset, line + 1))
    cuts.append(_Cut(offset, line + 1))
    columns = tuple(
        NamedColumn(name=name, type=_TYPES.get(frozenset(kinds), JSON if kinds else TEXT))
        for name, kinds in found.items()
    )
    return Contents(columns, _parts(number, _Cut(0, 1), cuts))


def _collect(text: bytes, found: dict[str, set[type]]) -> None:
    """Add the types of the values of a line; a line that is not an object is refused later, by itself."""
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    if isinstance(values, dict):
        for name, value in values.items():
            kinds = found.setdefault(name, set())
            if value is not None:
                is_long = type(value) is int and not -_LARGEST <= value < _LARGEST
                kinds.add(dict if is_long else type(value))


def same_columns(contents: Sequence[Contents], paths: Sequence[Path]) -> tuple[NamedColumn, ...]:
    """The columns of all files. Raises DataError if they differ; the lines of JSON may each have other keys."""
    first, *others = contents
    if kind_of(paths[0]) == "json":
        return _united(contents)
    for path, other in zip(paths[1:], others, strict=True):
        if other.columns != first.columns:
            different = {column.name for column in first.columns} ^ {column.name for column in other.columns}
            about = shortened(sorted(different)) if different else "the types or the order"
            msg = f"{path}: expected the columns of {paths[0]}; different: {about}"
            raise DataError(msg)
    return first.columns


def _united(contents: Sequence[Contents]) -> tuple[NamedColumn, ...]:
    types: dict[str, str] = {}
    for column in (column for found in contents for column in found.columns):
        types[column.name] = column.type if types.get(column.name, column.type) == column.type else JSON
    return tuple(NamedColumn(name=name, type=kind) for name, kind in types.items())
