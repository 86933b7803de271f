"""What is counted is what was answered, whatever becomes of the workers."""

import os
import signal
import time
from pathlib import Path
from statistics import median
from typing import Final

from service.deployment.worker_slots import RunFolder
from tests.gunicorn_process import GunicornProcess
from tests.reliability.load import RATE, Load
from tests.reliability.scrapes import Scrapes
from tests.reliability.workers import (
    children,
    is_at_full_strength,
    kill,
    loaded,
    serve,
    store_of,
    train_version,
)
from tests.waiting import wait_until

RECYCLES: Final = 50
KILLS: Final = 50
REQUESTS_A_WORKER: Final = 100
FILES: Final = {"counter_0.db", "counter_1.db", "histogram_0.db", "histogram_1.db"}


def answered(scrapes: Scrapes) -> int:
    """Predictions that the service has answered 200, by its own count."""
    return scrapes.total("appraiser_requests_total", route="/predict", status="200")


def report(server: GunicornProcess, scrapes: Scrapes, load: Load, workers: int, counted: int) -> None:
    """What was seen."""
    sizes = {path.name: path.stat().st_size for path in RunFolder(server.run).metrics()}
    print(f"\n{workers} workers took the place of others; {len(load.outcomes):,} requests, {len(load.failed())} failed")
    print(f"counted {counted:,}; {len(scrapes.fallen)} numbers went back in {len(scrapes.seconds)} scrapes")
    took = [1_000 * seconds for seconds in scrapes.seconds]
    print(f"a scrape took {median(took):.1f} ms, {max(took):.1f} at most, under load; files {sizes}")


def test_counters_are_the_clients_own_count_over_50_recycles(tmp_path: Path) -> None:
    store, seen = store_of(tmp_path, train_version("v1.0.0", "gradient-boosting")), set[int]()
    with serve(store, "--max-requests", str(REQUESTS_A_WORKER)) as server:
        wait_until(lambda: is_at_full_strength(RunFolder(server.run), 1))
        scrapes = Scrapes(server)
        with scrapes.running(), loaded(server).running() as load:
            while len(seen) < RECYCLES + 2:
                seen |= set(children(server.pid))
                time.sleep(0.02)  # who lives is seen by looking only
        wait_until(lambda: is_at_full_strength(RunFolder(server.run), 1))
        counted = answered(scrapes)
        report(server, scrapes, load, len(seen) - 2, counted)

        assert load.failed() == []
        assert counted == len(load.outcomes)
        assert scrapes.total("appraiser_request_seconds_count", route="/predict") == counted
        assert scrapes.total("appraiser_predictions_total") == counted
        assert scrapes.total("appraiser_journal_records_total") == counted
        assert scrapes.fallen == []
        assert {path.name for path in RunFolder(server.run).metrics()} == FILES


def test_counters_miss_no_answer_over_50_kills(tmp_path: Path) -> None:
    store, in_hand = store_of(tmp_path, train_version("v1.0.0", "gradient-boosting")), 0
    with serve(store) as server:
        scrapes, run = Scrapes(server), RunFolder(server.run)
        wait_until(lambda: is_at_full_strength(run, 1))
        with scrapes.running(), loaded(server).running() as load:
            for number in range(KILLS):
                worker = children(server.pid)[number % 2]
                kill(worker, server.port)
                wait_until(lambda worker=worker: worker not in children(server.pid) and is_at_full_strength(run, 1))  # type: ignore[misc]
        counted, received = answered(scrapes), len(load.outcomes) - len(load.failed())
        in_hand = len(load.failed())
        report(server, scrapes, load, KILLS, counted)

        assert received <= counted <= received + in_hand
        assert scrapes.fallen == []
        assert {path.name for path in run.metrics()} == FILES


def test_the_control_numbers_that_go_by_process_are_lost_with_it(tmp_path: Path) -> None:
    """Workers that find nothing of those before them begin at 0: that is seen as numbers that went back."""
    with serve(store_of(tmp_path, train_version("v1.0.0", "gradient-boosting"))) as server:
        scrapes, run = Scrapes(server), RunFolder(server.run)
        wait_until(lambda: is_at_full_strength(run, 1))
        with loaded(server).running() as load:
            wait_until(lambda: len(load.outcomes) > RATE)
        scrapes.look()
        former = children(server.pid)
        for path in run.metrics():
            path.unlink()
        for worker in former:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not set(former) & set(children(server.pid)) and is_at_full_strength(run, 1))
        with loaded(server).running() as again:
            wait_until(lambda: len(again.outcomes) > RATE / 2)
        scrapes.look()

    assert scrapes.fallen
