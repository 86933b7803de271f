"""kill -9 at 20 moments of a run: continued, it gives the same files, byte for byte, and leaves nothing behind."""

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import duckdb
import pytest

from pricing.artifacts.store import Store
from tests.waiting import wait_until

KILLS: Final = 20
ROWS: Final = 40_000
ROWS_A_PART: Final = 500
SOURCE: Final = """
copy (
    select round(400 + random() * 4000)::int as square_feet, round(random() * 5)::int as bedrooms,
        round(2 + random() * 8) / 2 as bathrooms, round(random() * 100)::int as age_years,
        case when random() < 0.01 then -1 else round(random() * 30, 2) end as distance_to_city, i as id
    from range({rows}) t(i)
) to '{path}' ({format})
"""


def command(store: Store, source: Path, out: Path) -> list[str]:
    appraiser = str(Path(sys.executable).with_name("appraiser"))
    options = ["--out", str(out), "--rows-per-part", str(ROWS_A_PART), "--resume", "--json"]
    return [appraiser, "--artifacts", str(store.root), "score", str(source), *options]


def alive(folder: Path) -> set[int]:
    """The processes that hold a file of a folder open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            names = [str(handle.readlink()) for handle in (process / "fd").iterdir()]
        except OSError:  # it has ended
            continue
        if any(name.startswith(str(folder)) for name in names):
            found.add(int(process.name))
    return found


def digests(out: Path) -> tuple[str, str]:
    files = (out, out.with_name(f"{out.stem}.refused.csv"))
    return hashlib.sha256(files[0].read_bytes()).hexdigest(), hashlib.sha256(files[1].read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_run_that_is_killed_and_continued_gives_the_same_bytes(ending: str, store: Store, tmp_path: Path) -> None:
    source, whole, out = (tmp_path / f"{name}.{ending}" for name in ("houses", "whole", "prices"))
    kind = "header" if ending == "csv" else "format parquet"
    with duckdb.connect() as connection:
        connection.execute("select setseed(0.1)")
        connection.execute(SOURCE.format(rows=ROWS, path=source, format=kind))
    subprocess.run(command(store, source, whole), check=True, stdout=subprocess.DEVNULL)
    parts, chance = tmp_path / f"prices.{ending}.parts", random.Random(ending)  # noqa: S311 -- moments
    kills = finished = 0
    while kills < KILLS // 2:
        before = len(list(parts.glob("*.json")))
        with subprocess.Popen(command(store, source, out), stdout=subprocess.DEVNULL) as process:
            enough = before + chance.randint(0, ROWS // ROWS_A_PART // 8)  # parts: also 0, and while it is put together
            wait_until(lambda: process.poll() is not None or len(list(parts.glob("*.json"))) > enough, seconds=60)  # noqa: B023 -- awaited here
            time.sleep(chance.random() / 20)  # anywhere in the next part
            process.send_signal(signal.SIGKILL)
            killed = process.wait() == -signal.SIGKILL
        wait_until(lambda: not alive(parts))  # the processes that price end with their parent
        kills += killed
        if out.exists():
            finished += 1
            assert digests(out) == digests(whole)
            out.unlink()
    if not out.exists():
        subprocess.run(command(store, source, out), check=True, stdout=subprocess.DEVNULL)
    print(f"\n{ending}: killed {kills} times, {finished} runs were whole in between")

    assert digests(out) == digests(whole)
    assert list(tmp_path.glob("*.parts")) == []
    with duckdb.connect() as connection:
        reader = f"read_csv('{out}')" if ending == "csv" else f"read_parquet('{out}')"
        ((rows, different, in_order),) = connection.execute(
            f"select count(*), count(distinct id), bool_and(id > before) "  # noqa: S608 -- our own file
            f"from (select id, lag(id, 1, -1) over () as before from {reader})"
        ).fetchall()
    assert rows == different > ROWS * 0.9
    assert in_order
