"""A worker process: it prices one part after the other, and writes each with its record.

What it writes has the name of its attempt until it is whole. The record of a part is renamed last, so a part that has a
record is finished. A second attempt at a part writes the same bytes.
"""

import atexit
import csv
import os
import signal
import threading
from multiprocessing import connection as pipes
from multiprocessing import parent_process
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import numpy as np

from pricing.artifacts.columns import OptionalColumn
from pricing.artifacts.store import Store
from pricing.files.filesystem import FileSystem
from pricing.format import Stored
from pricing.house import BOUNDS, FEATURES, Column, columns_to_matrix, violations
from pricing.inference.predictor import Predictor, load
from score.plan import PLAN, Plan, ScoreError, artifact_of
from score.read import Batch, literal, quoted, read
from score.sources import FilePart, Kind, kind_of

MEMORY: Final = "200MB"  # of DuckDB, in each process
FORMATS: Final[dict[Kind, str]] = {
    "csv": "format csv, header false",
    "parquet": "format parquet",
    "json": "format json",
}


class Done(Stored):
    """The record of a finished part."""

    number: int
    rows: int
    refused: int
    bytes: int
    """Of the prices."""
    refused_bytes: int
    reasons: dict[str, int]
    """How many rows are refused for each reason."""


class Names(NamedTuple):
    """The files of a part."""

    record: Path
    prices: Path
    refused: Path

    @classmethod
    def of(cls, folder: Path, number: int, attempt: str = "") -> "Names":
        """Those of a finished part, or of an attempt at one."""
        name = f"{number:06}{attempt}"
        return cls(folder / f"{name}.json", folder / f"{name}.prices", folder / f"{name}.refused")


class Worker:
    """The version of a plan, ready to price its parts."""

    def __init__(self, predictor: Predictor, columns: tuple[OptionalColumn, ...], plan: Plan, folder: Path) -> None:
        self._predictor = predictor
        self._columns = columns
        self._plan = plan
        self._folder = folder
        self._disk = FileSystem()

    @classmethod
    def of(cls, store: Store, plan: Plan, folder: Path) -> "Worker":
        """A worker of this process. Raises ArtifactError."""
        artifact = artifact_of(store, plan.order)
        return cls(load(artifact), artifact.manifest.columns, plan, folder)

    def finish(self, number: int) -> Done:
        """Price a part and write its files, durably. Raises ScoreError."""
        plan, part = self._plan, self._plan.parts[number]
        attempt, names = Names.of(self._folder, number, f".{os.getpid()}"), Names.of(self._folder, number)
        try:
            with duckdb.connect(config={"threads": "1", "memory_limit": MEMORY}) as connection:
                batch = read(connection, plan, part, self._columns)
                good = self._price(connection, batch)
                connection.execute(self._copy(attempt.prices))
        except duckdb.Error as error:
            path = plan.order.sources[part.source].path
            msg = f"{path}: cannot be priced from line {part.line}: {str(error).splitlines()[0]}"
            raise ScoreError(msg) from error
        reasons = self._write_refused(attempt.refused, part, batch)
        done = Done(
            number=number,
            rows=good,
            refused=len(batch.reasons) + len(batch.broken),
            bytes=attempt.prices.stat().st_size,
            refused_bytes=attempt.refused.stat().st_size,
            reasons=reasons,
        )
        self._disk.write(attempt.record, done.model_dump_json().encode())
        for source, target in reversed(list(zip(attempt, names, strict=True))):  # the record last
            self._disk.sync(source)
            self._disk.rename(source, target)
        return done

    def _copy(self, target: Path) -> str:
        """The statement that writes the priced rows of `part`; what the version reads as a number becomes one."""
        plan, kind, numbers = self._plan, kind_of(Path(self._plan.order.out)), ""
        if plan.kind == "csv" and kind != "csv":
            names = {*FEATURES, *(column.name for column in self._columns if column.kind == "number")}
            there = (plan.new_name(column.name) for column in plan.columns)
            cast = ", ".join(f"try_cast({quoted(name)} as double) as {quoted(name)}" for name in there if name in names)
            numbers = f" replace ({cast})"
        return (
            f"copy (select part.*{numbers}, price, lower, upper, "  # noqa: S608 -- quoted
            f"{literal(plan.order.version)} as model_version "
            f"from part positional join prices where is_priced) to {literal(str(target))} ({FORMATS[kind]})"
        )

    def _price(self, connection: duckdb.DuckDBPyConnection, batch: Batch) -> int:
        """Make the table `prices`, with a row for each row of `part`; returns how many have a price."""
        for name, values in batch.fields.items():
            for reason, mask in violations(BOUNDS[name], values).items():
                batch.refuse(mask, f"{name}: {reason}")
        is_priced = np.ones(len(batch.lines), dtype=np.bool_)
        is_priced[list(batch.reasons)] = False
        found = [np.full(len(batch.lines), np.nan) for _ in range(3)]
        if is_priced.any():
            houses = columns_to_matrix({name: values[is_priced] for name, values in batch.fields.items()})
            further = [values[is_priced].astype(np.float32) for values in batch.further]
            matrix = np.column_stack([houses, *further]) if further else houses
            answers = self._predictor.predict(matrix, self._plan.order.confidence).columns()
            for values, answer in zip(found, answers, strict=True):
                values[is_priced] = _cents(answer)
        price, lower, upper = found
        connection.register("prices", {"price": price, "lower": lower, "upper": upper, "is_priced": is_priced})
        return int(is_priced.sum())

    def _write_refused(self, path: Path, part: FilePart, batch: Batch) -> dict[str, int]:
        """Write line and reason of each row that has no price; returns how many rows each reason has."""
        rows = [(int(batch.lines[row]), "; ".join(reasons)) for row, reasons in batch.reasons.items()]
        counts: dict[str, int] = {}
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            for line, reason in sorted(rows + batch.broken):
                writer.writerow((self._plan.order.sources[part.source].path, line, reason))
                counts[reason] = counts.get(reason, 0) + 1
        return counts


def _cents(dollars: Column) -> Column:
    """Dollars as the service answers them: to cents, halves up (`service.predictions.handler.render`)."""
    return np.floor(dollars * 100 + 0.5) / 100


_orders: Final[list[tuple[Path, Path]]] = []
_workers: Final[list[Worker]] = []
"""What this process was started for, and what it has made of it."""


def start(store: Path, folder: Path) -> None:
    """Prepare this process, which ends when its parent has ended, whatever ended it.

    It reads the plan itself: a parent that hands over more than a pipe holds waits for good if the process dies.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    atexit.register(os._exit, 0)  # the teardown of DuckDB beside a thread prints what it has not freed
    _orders.append((store, folder))


def finish(number: int) -> Done:
    """Finish a part in this process. Raises AppraiserError."""
    if not _workers:  # not in `start`, whose errors the parent does not get
        ((store, folder),) = _orders
        plan = Plan.model_validate_json((folder / PLAN).read_bytes())
        _workers.append(Worker.of(Store(store), plan, folder))
    return _workers[0].finish(number)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        pipes.wait([parent.sentinel])
        os._exit(1)
