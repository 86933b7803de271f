"""CSV text as people have it: one line a row, whatever program wrote it.

* Line ends of any system, a byte order mark, `sep=,` before the header, spaces after commas, and a Ctrl-Z at the end.
* UTF-8; if it is not, the Western European encoding of Windows, with a note. Numbers are the same in all encodings of
  one byte a character, so a character that Windows-1252 does not know costs only itself.
* A row of another number of cells is refused by itself. Lines of nothing but commas and spaces are not rows.
* A quote that is not closed swallows the rows behind it, so it refuses the file, with the line where it begins.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from train.errors import DataError
from train.sales.table import Broken, Cells, Table

ENCODED: Final = "is not valid UTF-8, so it is read as Windows-1252; if that is not its encoding, save it as UTF-8"
_SEPARATOR: Final = re.compile(r"(?i)\"?sep=(.)\"?\n")
_LINE_ENDS: Final = re.compile("\r+\n|\r")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MAX_ODD: Final = 0.03  # of the first characters: remarks have one here and there, a tenth of a binary file is odd
_END: Final = "end of file"
_OF_NUMBERS: Final = frozenset('0123456789.$-+ "')
MIN_NUMBERS: Final = 3  # a remark has commas, and hardly any numbers between them


def read(path: Path) -> Table:
    """Read every column as text, under the names of the header. Raises DataError."""
    text, notes = _decoded(path)
    text = _LINE_ENDS.sub("\n", text)
    if declared := _SEPARATOR.match(text):
        if declared[1] != ",":
            raise _other_separator(path, declared[1])
        text = "\n" + text[declared.end() :]  # an empty line is skipped, and counted
    records = _records(path, text)
    names = [name.strip() for name in next(records, _Record(1, 1, [""])).cells]
    if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise _other_separator(path, other)
    rows: list[list[str]] = []
    lines: list[int] = []
    broken: list[Broken] = []
    for line, height, row in records:
        if height > 1 and (len(row) != len(names) or _holds_rows(row, len(names))):
            raise _unclosed(path, line)
        if len(row) >= len(names) and not any(row[len(names) :]):
            rows.append(row)
            lines.append(line)
        else:
            broken.append(Broken(f"the row has {_cells(len(row))}, expected {len(names)}", line))
    cells: dict[str, Cells] = {}
    for number, name in enumerate(names):
        cells.setdefault(name, [row[number] for row in rows])
    repeated = frozenset(name for name in names if names.count(name) > 1)
    return Table(cells, lines, tuple(broken), notes, repeated)


class _Record(NamedTuple):
    line: int
    height: int
    """Lines that it takes."""
    cells: list[str]


def _records(path: Path, text: str) -> Iterator[_Record]:
    """The records that hold anything. Raises DataError if a quote is not closed."""
    reader = csv.reader(io.StringIO(text + _END), skipinitialspace=True)  # which is a cell if a quote is not closed
    last = text.count("\n") + 1
    line = 1
    try:
        for row in reader:
            if line == last and row == [_END]:
                return
            height = reader.line_num + 1 - line
            if any(map(str.strip, row)):
                yield _Record(line, height, row)
            line += height
    except csv.Error as error:  # a cell beyond the limit
        limit = csv.field_size_limit()
        if len(text.split("\n", line)[line - 1]) <= limit:
            raise _unclosed(path, line) from error
        msg = f"{path}: line {line}: a cell has more than {limit:,} characters; shorten it, or remove its column"
        raise DataError(msg) from error
    raise _unclosed(path, line - height)


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    data = path.read_bytes()
    notes: tuple[str, ...] = ()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        notes = (f"{path.name} {ENCODED}",)
        text = data.decode("cp1252", errors="replace")
    text = text.lstrip("\ufeff").rstrip("\x1a\r\n") + "\n"
    beginning = text[:4096]
    unknown = beginning.count("\ufffd") if notes else 0  # in UTF-8 they are what another program has left of letters
    if len(_CONTROL.findall(beginning)) + unknown > MAX_ODD * len(beginning):
        raise _not_text(path)
    return text, notes


def _holds_rows(cells: list[str], width: int) -> bool:
    """Whether a cell of several lines has swallowed lines that look like rows: as many cells, some of them numbers."""
    lines = (line.split(",") for cell in cells for line in cell.split("\n")[1:])
    return any(len(parts) >= width and sum(map(_is_number, parts)) >= MIN_NUMBERS for parts in lines)


def _is_number(cell: str) -> bool:
    return bool(cell) and set(cell) <= _OF_NUMBERS


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def _unclosed(path: Path, line: int) -> DataError:
    return DataError(f'{path}: line {line}: a quote (") is opened and not closed; close it, or remove it')


def _other_separator(path: Path, found: str) -> DataError:
    kind = {";": "semicolons", "\t": "tabs"}.get(found, found)
    return DataError(f"{path}: cells must be separated by commas, found {kind}; save the file as CSV with commas")


def _not_text(path: Path) -> DataError:
    return DataError(f"{path}: the content does not match the file name: it is not CSV text in UTF-8")
