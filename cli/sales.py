"""The options that name a file of sales and how it is read: the same for every command that reads one."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from cli.context import Command

if TYPE_CHECKING:
    from train.sales.columns import ColumnChoice
    from train.sales.rows import Reading

UNITS: Final = ("m2", "km")
RENAME: Final = click.option(
    "--rename", multiple=True, metavar="OLD=NEW,...", help="Other names for columns of the file."
)
UNIT: Final = click.option(
    "--unit",
    "units",
    multiple=True,
    metavar="COLUMN=UNIT,...",
    help="Units of the file: m2, km, or a number to multiply with, for example price=1000.",
)


class DataOptions(NamedTuple):
    """The file, and how it is read."""

    path: Path | None
    query: str | None
    rename: Mapping[str, str]
    units: Mapping[str, str | float]
    allow_refused: float
    sold_on: str | None

    def reading(self) -> "Reading":
        """The same for `train.sales.rows.read`; needs the libraries of training."""
        from train.sales.rows import Reading

        return Reading(self.rename, factors_of(self.units), self.allow_refused, self.sold_on)


def data_options(*, required: bool = False, without: str = "") -> Callable[[Command], Command]:
    """Decorate a command, which gets a `data` of type DataOptions."""
    options = (
        click.option(
            "--data",
            "data_path",
            type=click.Path(path_type=Path),
            required=required,
            help=f"CSV, Parquet, JSON lines or DuckDB{without}.",
        ),
        click.option("--query", help="Of a .duckdb file: the name of a table, or a select."),
        RENAME,
        UNIT,
        click.option(
            "--allow-refused",
            default="5%",
            show_default=True,
            metavar="PERCENT",
            help="Share of the rows that may be refused.",
        ),
        click.option("--sold-on", metavar="COLUMN", help="Column with the date of sale; without it, sold_on if there."),
    )

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_data(  # noqa: PLR0913 -- one for each option
            *arguments: object,
            data_path: Path | None,
            query: str | None,
            rename: tuple[str, ...],
            units: tuple[str, ...],
            allow_refused: str,
            sold_on: str | None,
            **others: object,
        ) -> object:
            if query is not None and data_path is None:
                msg = "--query needs --data with a .duckdb file"
                raise click.UsageError(msg)
            data = DataOptions(
                data_path,
                query,
                pairs("--rename", rename),
                units_of(units),
                _share(allow_refused),
                sold_on,
            )
            return command(*arguments, data=data, **others)

        decorated: Callable[..., Any] = with_data
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[return-value]  # the same command with other parameters

    return decorate


class ColumnOptions(NamedTuple):
    """The further columns to learn from, as they were named."""

    text: str | None
    path: Path | None
    audit: tuple[str, ...] = ()

    def choice(self) -> "ColumnChoice | None":
        """The columns; None if none were named. Needs the libraries of training. Raises DataError."""
        from train.sales.columns import parse_wishes, read_wishes

        if self.path is not None:
            return read_wishes(self.path)
        return None if self.text is None else parse_wishes(self.text)


def column_options(without: str) -> Callable[[Command], Command]:
    """Decorate a command, which gets `columns` of type ColumnOptions; `without` is what holds if none are named."""

    def decorate(command: Command) -> Command:
        @click.option(
            "--columns",
            metavar="NAME[:KIND],...",
            help="Further columns to learn from, a kind is number or category; `all` for what can be learned from, "
            f"`none` for the five fields. Without it, {without}.",
        )
        @click.option(
            "--columns-file",
            type=click.Path(path_type=Path),
            help="The same as a TOML file, with a table for each column: kind, unit, description, minimum, maximum, "
            "group.",
        )
        @click.option(
            "--audit",
            multiple=True,
            metavar="COLUMN",
            help="Study errors by this column of the file in the report, and never learn from it; repeatable.",
        )
        @wraps(command)
        def with_columns(
            *arguments: object,
            columns: str | None,
            columns_file: Path | None,
            audit: tuple[str, ...],
            **others: object,
        ) -> object:
            if columns is not None and columns_file is not None:
                msg = "--columns and --columns-file cannot be used together"
                raise click.UsageError(msg)
            return command(*arguments, columns=ColumnOptions(columns, columns_file, audit), **others)

        return with_columns  # type: ignore[return-value]  # the same command with other parameters

    return decorate


@contextmanager
def training_libraries(what: str = "training") -> Iterator[None]:
    """Name the requirements to install if an import inside fails."""
    try:
        yield
    except ImportError as error:
        msg = f"{what} needs {error.name}: install requirements-train.txt, or use the image for training"
        raise click.ClickException(msg) from error


def pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE,... as a dictionary. Raises click.UsageError."""
    found: dict[str, str] = {}
    for pair in (part.strip() for text in given for part in text.split(",")):
        name, _, value = (part.strip() for part in pair.partition("="))
        if not name or not value or name in found:
            msg = f"{option}: expected NAME=VALUE, each name once, got {pair!r}"
            raise click.UsageError(msg)
        found[name] = value
    return found


def units_of(given: tuple[str, ...]) -> dict[str, str | float]:
    """The units of --unit by column. Raises click.UsageError."""
    return {name: _unit(name, unit) for name, unit in pairs("--unit", given).items()}


def factors_of(units: Mapping[str, str | float]) -> dict[str, float]:
    """The factor of each column. Needs the libraries of training."""
    from train.sales.rows import KILOMETER, SQUARE_METER

    factors = {"m2": SQUARE_METER, "km": KILOMETER}
    return {name: factors[unit] if isinstance(unit, str) else unit for name, unit in units.items()}


def _unit(name: str, unit: str) -> str | float:
    if unit in UNITS:
        return unit
    if re.fullmatch(r"\d+(?:\.\d+)?(?:e-?\d+)?", unit) and float(unit) > 0:
        return float(unit)
    msg = f"--unit {name}: expected {', '.join(UNITS)} or a number above 0, got {unit!r}"
    raise click.UsageError(msg)


def _share(text: str) -> float:
    if re.fullmatch(r"\d{1,2}(?:\.\d+)?%", text):
        return float(text[:-1]) / 100
    msg = f"--allow-refused: expected a percentage below 100, such as 10%, got {text!r}"
    raise click.UsageError(msg)
