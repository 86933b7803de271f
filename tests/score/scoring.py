"""Runs in this process, and what the service answers for the same houses."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from benchmarks.score import figures, service
from pricing.artifacts.store import Store
from score.plan import Plan, ScoreOptions
from score.run import Finish, Scored, score
from score.work import Done, Worker
from service.predictions.handler import SINGLE, Request
from service.trace import Trace

ADDED: Final = ("price", "lower", "upper", "model_version")


def in_this_process(store: Store, plan: Plan, folder: Path, missing: Sequence[int]) -> Iterator[Done]:
    worker = Worker.of(store, plan, folder)
    yield from map(worker.finish, missing)


def in_disorder(store: Store, plan: Plan, folder: Path, missing: Sequence[int]) -> Iterator[Done]:
    yield from in_this_process(store, plan, folder, missing[::-1])


def interrupted_after(parts: int) -> Finish:
    """Finish so many parts, and then be interrupted."""

    def finish(store: Store, plan: Plan, folder: Path, missing: Sequence[int]) -> Iterator[Done]:
        yield from in_this_process(store, plan, folder, missing[:parts])
        raise KeyboardInterrupt

    return finish


@contextmanager
def unseen(_rows: int, _finished: int) -> Iterator[Any]:
    yield lambda _rows: None


def run(store: Store, source: Path | str, out: Path, finish: Finish = in_this_process, **options: Any) -> Scored:  # noqa: ANN401 -- those of ScoreOptions
    return score(store, ScoreOptions((str(source),), out, **options), finish, unseen)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file by the names of the columns; those of CSV are text."""
    readers = {
        ".csv": "read_csv($path, all_varchar = true, header = true, delim = ',', quote = '\"', escape = '\"')",
        ".parquet": "read_parquet($path)",
        ".jsonl": "read_json($path, format = 'newline_delimited')",
    }
    with duckdb.connect() as connection:
        found = connection.execute(f"from {readers[path.suffix]}", {"path": str(path)})
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def priced(path: Path) -> list[tuple[float, float, float, str]]:
    """What was added to each row."""
    return [(*(float(row[name]) for name in ADDED[:3]), row["model_version"]) for row in rows_of(path)]


def answers(store: Store, houses: Sequence[dict[str, Any] | str], query: str = "") -> list[tuple[int, Any]]:
    """The status and the figures that the service answers for each house."""
    answerer = service(store.root)
    found = []
    for house in houses:
        body = house.encode() if isinstance(house, str) else orjson.dumps(house)
        reply = answerer.answer(Request(SINGLE, query, "", "", body, Trace("")))
        found.append((reply.status, figures(orjson.loads(reply.body)) if reply.status == 200 else None))
    return found
