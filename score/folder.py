"""The folder of a run beside its file of prices: `OUT.parts`, with the plan, the finished parts and their records.

* A plan is there as a whole or not at all, and one process at a time holds the folder.
* A part is finished if its record is there and its files have the sizes in the record.
* The file of prices is put together aside, made durable, and renamed. Then the folder is removed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb
from pydantic import ValidationError

from pricing.files.filesystem import FileSystem
from pricing.files.locks import try_lock
from pricing.format import reason_of
from score.plan import ADDED, PLAN, ROWS_A_PART, Plan, ScoreError
from score.read import literal
from score.sources import kind_of
from score.work import Done, Names

LOCK: Final = "lock"
MEMORY: Final = "400MB"  # of DuckDB, in the one process that puts Parquet together
REFUSED_HEADER: Final = b"file,line,reason\n"


class PartsFolder:
    """The parts of one file of prices."""

    def __init__(self, out: Path, disk: FileSystem | None = None) -> None:
        self.out = out.absolute()
        self.root = self.out.with_name(f"{out.name}.parts")
        self.refused = self.out.with_name(f"{out.stem}.refused.csv")
        self._disk = disk or FileSystem()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, which must exist. Raises ScoreError if another process does."""
        handle = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(handle):
                msg = f"{self.root}: another process works on it; wait for its end"
                raise ScoreError(msg)
            yield
        finally:
            os.close(handle)

    def plan(self) -> Plan | None:
        """The plan of the interrupted run; None if it was interrupted before it had one. Raises ScoreError."""
        try:
            return Plan.model_validate_json((self.root / PLAN).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            msg = f"{self.root / PLAN}: {reason_of(error)}; remove the folder to start anew"
            raise ScoreError(msg) from error

    def keep(self, plan: Plan) -> None:
        """Write the plan; parts that are there without one are those of another."""
        for path in self.root.iterdir():
            if path.name != LOCK:
                self._disk.remove(path)
        aside = self.root / f"{PLAN}.aside"
        self._disk.write(aside, plan.model_dump_json().encode())
        self._disk.sync(aside)
        self._disk.rename(aside, self.root / PLAN)
        self._disk.sync(self.root)

    def finished(self, plan: Plan) -> dict[int, Done]:
        """The records of the finished parts, by number."""
        found = (self._record(number) for number in range(len(plan.parts)))
        return {done.number: done for done in found if done is not None}

    def _record(self, number: int) -> Done | None:
        names = Names.of(self.root, number)
        try:
            done = Done.model_validate_json(names.record.read_bytes())
            sizes = names.prices.stat().st_size, names.refused.stat().st_size
        except (FileNotFoundError, ValidationError):
            return None
        return done if sizes == (done.bytes, done.refused_bytes) else None

    def assemble(self, plan: Plan, finished: dict[int, Done]) -> None:
        """Put the files together and let them appear, the prices last. Raises ScoreError and OSError."""
        numbers = range(len(plan.parts))
        if finished.keys() != set(numbers):  # nothing is left out in silence
            msg = f"{self.root}: {len(numbers) - len(finished)} of {len(numbers)} parts are not finished"
            raise ScoreError(msg)
        parts = [Names.of(self.root, number) for number in numbers]
        prices, refused = self.root / "prices.aside", self.root / "refused.aside"
        if kind_of(self.out) == "parquet":
            _merge([names.prices for names in parts], prices)
        else:
            _concatenate([names.prices for names in parts], prices, _header(plan))
        _concatenate([names.refused for names in parts], refused, REFUSED_HEADER)
        self._disk.sync(prices)
        self._disk.sync(refused)
        if any(done.refused for done in finished.values()):
            self._disk.rename(refused, self.refused)
        else:
            self._disk.remove(self.refused)
        self._disk.rename(prices, self.out)
        self._disk.sync(self.out.parent)
        self._disk.remove(self.root)


def _header(plan: Plan) -> bytes:
    """The names of the columns as a line of CSV; nothing for JSON lines."""
    if kind_of(Path(plan.order.out)) != "csv":
        return b""
    names = [*(plan.new_name(column.name) for column in plan.columns), *ADDED]
    return (",".join(map(_cell, names)) + "\n").encode()


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _concatenate(sources: list[Path], target: Path, header: bytes) -> None:
    with target.open("wb") as file:
        file.write(header)
        for source in sources:
            with source.open("rb") as part:
                shutil.copyfileobj(part, file, 1024 * 1024)


def _merge(sources: list[Path], target: Path) -> None:
    """One Parquet file of all rows in their order; its groups of rows do not depend on the number of threads."""
    names = ", ".join(literal(str(source)) for source in sources)
    try:
        with duckdb.connect(config={"memory_limit": MEMORY, "preserve_insertion_order": "true"}) as connection:
            connection.execute(
                f"copy (select * from read_parquet([{names}], hive_partitioning = false)) "  # noqa: S608 -- quoted
                f"to {literal(str(target))} (format parquet, row_group_size {ROWS_A_PART})"
            )
    except duckdb.Error as error:
        msg = f"{target}: cannot be written: {str(error).splitlines()[0]}"
        raise ScoreError(msg) from error
