"""How long `replay` takes to find a record: `python -m benchmarks.find`.

A journal of a year: 400 segments, compressed, of 10,000 records each. A prediction is looked for whose id tells the
segment, one whose clock was wrong, so that all segments are searched, and one that is not there. Milliseconds.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.torn_tail import filled
from pricing.errors import UnknownPredictionError
from pricing.ids import Ids
from pricing.journal.journal import find, read
from pricing.journal.segments import path_of, retire, segments

SEGMENTS = 400
DAY = 86_400
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ids = filled_with_days(root)
        middle = ids[len(ids) // 2]
        tell("its id tells the segment", lambda: find(root, middle))
        tell("the clock was wrong", lambda: find(root, next(read(root)).prediction_id))
        tell("it is not there", lambda: suppressed(root))


def filled_with_days(root: Path) -> list[str]:
    """One segment for each day until now; returns an id of each."""
    filled(root / "one", 10, 1 << 30).close()
    (one,) = segments(root / "one")
    data = one.path.read_bytes()
    first = next(read(root / "one")).prediction_id
    ids, now = [], time.time()
    for day in range(SEGMENTS, 0, -1):
        begun = now - day * DAY
        name = Ids(lambda begun=begun: int((begun + 1_000) * 1e9)).one()  # type: ignore[misc]
        path = path_of(root, "benchmark-0", datetime.fromtimestamp(begun, UTC))
        # The first day has ids of today, as if its clock had been wrong.
        path.write_bytes(data if day == SEGMENTS else data.replace(first.encode(), name.encode()))
        ids.append(name)
    retire(root, "benchmark-0", None, now)
    return ids


def suppressed(root: Path) -> None:
    """Look for what is not there."""
    with suppress(UnknownPredictionError):
        find(root, Ids().one())


def tell(name: str, run: Callable[[], object]) -> None:
    """Print the fastest of some rounds, since machines are shared and noisy."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        run()
        took.append(time.perf_counter() - begun)
    print(f"{name:26} {1_000 * min(took):8.1f} ms")


if __name__ == "__main__":
    main()
