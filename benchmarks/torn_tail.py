"""How long a journal takes to start behind a torn tail of 64 MiB: `python -m benchmarks.torn_tail`.

A worker starts only when its last segment is mended, and gunicorn kills one that does not start within 30 s. Prints the
milliseconds until the journal is ready, for each kind of tail; then for segments that hold no tail but must be read
for the last number of their writer: one that is full, and one that is compressed.
"""

import tempfile
import time
from pathlib import Path

from pricing.ids import Ids
from pricing.journal.journal import Context, Entry, Journal, Source
from pricing.journal.segments import retire, segments
from service.contract import EXAMPLE_HOUSE

SIZE = 64 * 1024 * 1024
CONTEXT = Context(
    Source(1, "v1.0.0", "champion", "0" * 64, 0.9, cache_hit=False), "2026-01-01T00:00:00.000+00:00", "a", None
)
TAILS = {
    "nothing": b"",
    "zeros": b"\0",
    "one line without an end": b"x",
    "garbage lines": b'{"what": "is this", "is": "no record"}\n',
    "lines of one byte": b"x\n",
    "empty lines": b"\n",
    "short objects": b'{"sequence":1}\n',
    "beginnings of records": b'{"prediction_id":"\n',
    "records that are no JSON": b'{"prediction_id":"","sequence":1,}\n',
}


def main() -> None:
    """Measure and print."""
    for name, line in TAILS.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            filled(root, 1, SIZE).close()
            (segment,) = segments(root)
            with segment.path.open("ab") as file:
                file.write((line * (SIZE // len(line) + 1))[:SIZE] if line else b"")
            tell(name, root, SIZE * 2)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        filled(root, SIZE // 600_000, SIZE).close()
        tell("a full segment", root, 1_024)
        for segment in segments(root):
            retire(root, segment.writer, None, time.time())
        tell("a compressed segment", root, 1_024)


def filled(root: Path, batches: int, segment_bytes: int) -> Journal:
    """A journal of batches of 1,000 records."""
    journal, ids = Journal(root, "benchmark", 0, segment_bytes, 1), Ids()
    house = {name: float(value) for name, value in EXAMPLE_HOUSE.items()}
    for _ in range(batches):
        entries: list[Entry] = [(name, house, 413989.57, 355882.25, 481584.47) for name in ids.take(1_000)]
        journal.append(CONTEXT, entries)
    return journal


def tell(name: str, root: Path, segment_bytes: int) -> None:
    """Print how long a journal takes until it is ready."""
    journal = Journal(root, "benchmark", 0, segment_bytes, 1)
    begun = time.perf_counter()
    journal.start()
    took = 1_000 * (time.perf_counter() - begun)
    journal.stop()
    journal.close()
    print(f"{name:26} {took:8.1f} ms")


if __name__ == "__main__":
    main()
