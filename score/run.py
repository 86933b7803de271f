"""A run: plan, price, put together. An interrupted run is continued where it stopped."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from pricing.artifacts.store import Store
from pricing.errors import changed
from score.folder import PartsFolder
from score.plan import Plan, ScoreError, ScoreOptions, artifact_of, check_same, make, order_of
from score.work import Done, finish, start

Progress = Callable[[int, int], AbstractContextManager[Callable[[int], None]]]
"""Shows rows: gets how many there are, and how many are done; yields what is called with the rows of each part."""

Finish = Callable[[Store, Plan, Path, Sequence[int]], Iterator[Done]]
"""Finishes the parts of a plan that have these numbers, in whatever order, and writes them into a folder."""


class Scored(NamedTuple):
    """The result of a run."""

    out: Path
    version: str
    rows: int
    refused: int
    refused_file: Path | None
    """None if no row is refused."""
    reasons: dict[str, int]
    """How many rows each reason has, the most frequent first."""


def score(store: Store, options: ScoreOptions, finish_parts: Finish, progress: Progress) -> Scored:
    """Price the files and write the prices. Raises AppraiserError with one sentence; an interrupted run stays."""
    folder = PartsFolder(options.out)
    if not folder.out.parent.is_dir():
        msg = f"{folder.out.parent}: the folder was not found; make it before"
        raise ScoreError(msg)
    if folder.root.exists():
        if not options.resume:
            msg = f"{folder.root} holds an interrupted run; --resume continues it, or remove that folder to start anew"
            raise ScoreError(msg)
        with folder.held():
            return _run(store, options, folder, folder.plan(), finish_parts, progress)
    if folder.out.exists():
        msg = f"{options.out} exists; choose another name, or remove it"
        raise ScoreError(msg)
    plan = _plan(store, options)
    folder.root.mkdir()
    with folder.held():
        return _run(store, options, folder, plan, finish_parts, progress)


def _plan(store: Store, options: ScoreOptions) -> Plan:
    order = order_of(store, options, options.version or store.deployment().champion)
    return make(order, artifact_of(store, order).manifest, options.rows_a_part)


def _run(  # noqa: PLR0913, PLR0917 -- all that is known
    store: Store,
    options: ScoreOptions,
    folder: PartsFolder,
    plan: Plan | None,
    finish_parts: Finish,
    progress: Progress,
) -> Scored:
    if plan is None or folder.plan() is None:
        plan = plan or _plan(store, options)
        folder.keep(plan)
    check_same(plan, order_of(store, options, options.version or plan.order.version))
    with changed(f"{folder.root} keeps the finished parts; --resume continues from there"):
        done = folder.finished(plan)
        finished_rows = sum(plan.parts[number].rows for number in done)
        with progress(plan.rows, finished_rows) as advance:
            missing = [number for number in range(len(plan.parts)) if number not in done]
            for found in finish_parts(store, plan, folder.root, missing):
                done[found.number] = found
                advance(plan.parts[found.number].rows)
        folder.assemble(plan, done)
    return _scored(plan, folder, done)


def in_processes(count: int) -> Finish:
    """Finish parts in so many processes. Raises ScoreError if one of them dies."""

    def finish_parts(store: Store, _plan: Plan, folder: Path, missing: Sequence[int]) -> Iterator[Done]:
        if not missing:
            return
        pool = ProcessPoolExecutor(
            min(count, len(missing)),
            get_context("spawn"),  # sessions and threads do not survive a fork
            start,
            (store.root.absolute(), folder),
        )
        try:
            for future in as_completed([pool.submit(finish, number) for number in missing]):
                yield future.result()
        except BrokenProcessPool as error:
            msg = "a process that prices parts was ended from outside, or had too little memory"
            raise ScoreError(msg) from error
        finally:
            pool.shutdown(cancel_futures=True)

    return finish_parts


def _scored(plan: Plan, folder: PartsFolder, done: dict[int, Done]) -> Scored:
    reasons: Counter[str] = Counter()
    for found in done.values():
        reasons.update(found.reasons)
    refused = sum(found.refused for found in done.values())
    return Scored(
        folder.out,
        plan.order.version,
        sum(found.rows for found in done.values()),
        refused,
        folder.refused if refused else None,
        dict(reasons.most_common()),
    )


def usable_cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))
