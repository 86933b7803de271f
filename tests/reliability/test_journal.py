"""Every answer is in the journal exactly once, whatever happens to the workers and to the disk."""

import os
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from pricing.journal.journal import Record, read
from pricing.journal.segments import COMPRESSED, segments
from service.deployment.worker_slots import RunFolder
from tests.reliability.load import Outcome
from tests.reliability.scrapes import Scrapes
from tests.reliability.workers import (
    BATCH,
    appraiser,
    children,
    is_at_full_strength,
    kill,
    loaded_with_batches,
    serve,
    store_of,
    train_version,
)
from tests.waiting import sleep_until, wait_until

ANSWERS: Final = 100_000
KILLS: Final = 50
FULL_SECONDS: Final = 30.0
RESUME_SECONDS: Final = 2.0
ROTATION_SECONDS: Final = 2.0
SEGMENT_BYTES: Final = 2_000_000  # of a worker that prices 2,000 houses a second: 2 s


def told(outcomes: Iterable[Outcome]) -> list[str]:
    """The ids of all predictions that clients were given."""
    return [prediction for outcome in outcomes for prediction in outcome.prediction_ids]


def gaps(records: Iterable[Record]) -> int:
    """How many numbers are missing in the sequences of all writers."""
    found: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for record in records:
        found[record.instance, record.slot].append(record.sequence)
    return sum(max(numbers) - len(set(numbers)) for numbers in found.values())


def torn(journal: Path) -> list[str]:
    """Segments that are not compressed and do not end with a whole line."""
    paths = [segment.path for segment in segments(journal) if not segment.path.name.endswith(COMPRESSED)]
    return [path.name for path in paths if (data := path.read_bytes()) and not data.endswith(b"\n")]


def test_100_000_answers_over_promotions_recycles_and_rotations(tmp_path: Path) -> None:
    versions = [train_version(f"v1.{number}.0", "gradient-boosting", seed=number) for number in range(2)]
    store, seen = store_of(tmp_path, *versions), set[int]()
    environment = {"APPRAISER_JOURNAL_SEGMENT_BYTES": str(SEGMENT_BYTES)}
    with serve(store, "--max-requests", "400", env=environment) as server:
        wait_until(lambda: is_at_full_strength(RunFolder(server.run), 1))
        with loaded_with_batches(server).running() as load:
            begun, promotions = time.monotonic(), 0
            while len(load.outcomes) * BATCH < ANSWERS:
                appraiser(store, server.run, "promote", f"v1.{(promotions + 1) % 2}.0")
                promotions += 1
                seen |= set(children(server.pid))
                sleep_until(begun + 3 * promotions)
            seconds = time.monotonic() - begun
        server.stop()
        records, answered = list(read(server.journal)), told(load.outcomes)
        rotations = len(segments(server.journal)) - 2
        recorded = Counter(record.prediction_id for record in records)
        print(f"\n{len(answered):,} answers, {len(load.failed())} requests failed, {promotions} promotions,")
        print(f"{len(seen) - 2} recycles, {rotations} rotations in {seconds:.0f} s")
        print(f"{len(set(answered) - recorded.keys())} missing, {len(recorded) - len(answered)} never told,")
        print(f"{sum(n > 1 for n in recorded.values())} twice, {len(torn(server.journal))} torn, {gaps(records)} gaps")

        assert load.failed() == []
        assert len(answered) == len(set(answered)) >= ANSWERS
        assert recorded == Counter(answered)
        assert gaps(records) == 0
        assert torn(server.journal) == []
        assert len({record.model_version for record in records}) == 2
        assert rotations >= 2 * (seconds / ROTATION_SECONDS - 4)  # by each of two workers
        # the controls: one record less, one twice
        assert gaps([record for record in records if record.sequence != 7]) > 0
        assert Counter(answered + answered[:1]) != recorded


def test_50_kills_lose_no_answered_prediction(tmp_path: Path) -> None:
    store = store_of(tmp_path, train_version("v1.0.0", "gradient-boosting"))
    environment = {"APPRAISER_JOURNAL_SEGMENT_BYTES": str(SEGMENT_BYTES)}
    with serve(store, env=environment) as server:
        run = RunFolder(server.run)
        wait_until(lambda: is_at_full_strength(run, 1))
        with loaded_with_batches(server).running() as load:
            for number in range(KILLS):
                worker = children(server.pid)[number % 2]
                if number % 2:
                    kill(worker, server.port)
                else:
                    os.kill(worker, 9)  # wherever it is: `kill` stops it first, between two instructions
                wait_until(lambda worker=worker: worker not in children(server.pid) and is_at_full_strength(run, 1))  # type: ignore[misc]
        server.stop()
        records, answered = list(read(server.journal)), told(load.outcomes)
        recorded = Counter(record.prediction_id for record in records)
        missing = set(answered) - recorded.keys()
        print(f"\n{KILLS} kills, {len(answered):,} answers, {len(load.failed())} requests failed,")
        print(f"{len(missing)} answers not recorded, {len(recorded) - len(answered)} recorded but not answered")

        assert missing == set()
        assert max(recorded.values()) == 1
        assert gaps(records) == 0
        assert torn(server.journal) == []
        assert len(recorded) - len(answered) <= BATCH * len(load.failed())


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own. Skips where none can be made."""
    folder.mkdir()
    size = f"size={megabytes}m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small tmpfs: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Take all that is left of a disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def test_a_disk_that_is_full_for_30_seconds_costs_no_answer_and_what_is_missing_is_counted(tmp_path: Path) -> None:
    store = store_of(tmp_path, train_version("v1.0.0", "gradient-boosting"))
    with small_disk(tmp_path / "disk", 64) as disk:
        journal = disk / "journal"
        places = {"APPRAISER_JOURNAL": str(journal), "APPRAISER_JOURNAL_SEGMENT_BYTES": str(SEGMENT_BYTES)}
        with serve(store, env=places) as server:
            scrapes = Scrapes(server)
            wait_until(lambda: is_at_full_strength(RunFolder(server.run), 1))
            with loaded_with_batches(server, rate=100.0).running() as load:
                wait_until(lambda: len(load.outcomes) > 500)
                fill(disk / "filler")
                full = time.time()
                sleep_until(time.monotonic() + FULL_SECONDS)
                (disk / "filler").unlink()
                free, answered_then = time.time(), len(load.outcomes)
                wait_until(lambda: len(load.outcomes) > answered_then + 500)
            dropped = scrapes.total("appraiser_journal_dropped_total")
            kept = scrapes.total("appraiser_journal_records_total")
            server.stop()
            log = server.log
        records, answered = list(read(journal)), told(load.outcomes)
        recorded = Counter(record.prediction_id for record in records)
        missing = set(answered) - recorded.keys()
        times = sorted(record.predicted_at.timestamp() for record in records)
        resumed = next(moment for moment in times if moment > free) - free
        during = sum(full + 1 < moment < free for moment in times)
        print(f"\nfull for {free - full:.0f} s: {len(answered):,} answers, {len(load.failed())} requests failed,")
        print(f"{len(missing):,} not recorded, {dropped:,} counted as dropped, numbers missing {gaps(records):,},")
        print(f"recorded while it was full {during:,}; recording resumed after {resumed:.2f} s")

        assert load.failed() == []
        assert len(missing) == dropped == gaps(records) > 0
        assert len(recorded) == kept == len(answered) - dropped
        assert max(recorded.values()) == 1
        assert torn(journal) == []
        assert resumed <= RESUME_SECONDS
        assert log.count("cannot be written: No space left on device") >= 1
        assert "the journal records again" in log
