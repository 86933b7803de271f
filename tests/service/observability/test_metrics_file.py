"""The numbers of a slot: prometheus-client reads them, later workers go on with them, no full disk hurts them."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from service.observability.metrics_file import START_BYTES, InMemoryMetrics, Labels, MetricsFile, Sample
from tests.gunicorn_process import ROOT

LABELS: Final = {"color": "red", "age": "1"}
# On a disk with room for one map, but not for one twice as large; a page that is not there would kill it by SIGBUS.
FILL: Final = """
import resource, sys
from pathlib import Path
from service.observability.metrics_file import START_BYTES, MetricsFile
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (START_BYTES, START_BYTES))
file = MetricsFile(Path(sys.argv[1]) / "counter_0.db")
for number in range(5_000):
    cell = file.cell("n", "n_total", {"number": str(number)}, "Numbers.")
    cell.add(1.0)
    assert cell.value == 1.0
file.cell("n", "n_total", {"number": "0"}, "Numbers.").add(1.0)
if sys.argv[2] == "disk":
    try:
        MetricsFile(Path(sys.argv[1]) / "histogram_0.db")
    except OSError as error:
        print(error.strerror)
"""
ADD: Final = """
import sys
from pathlib import Path
from service.observability.metrics_file import MetricsFile
MetricsFile(Path(sys.argv[1])).cell("seen", "seen_total", {"color": "red", "age": "1"}, "Things seen.").add(2.0)
"""


def seen(file: MetricsFile, **labels: str) -> Sample:
    return file.cell("seen", "seen_total", LABELS | labels, "Things seen.")


def read(*paths: Path) -> dict[tuple[str, str], float]:
    """What prometheus-client reads: values by color and age."""
    metrics = MultiProcessCollector.merge(paths)  # type: ignore[no-untyped-call]
    return {(s.labels["color"], s.labels["age"]): s.value for metric in metrics for s in metric.samples}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counter_0.db"


def test_prometheus_client_reads_what_was_written(path: Path) -> None:
    file = MetricsFile(path)

    seen(file).add(2.0)
    seen(file).add(0.5)
    seen(file, color='blü"e\n').add(1.0)

    assert read(path) == {("red", "1"): 2.5, ('blü"e\n', "1"): 1.0}
    (metric,) = MultiProcessCollector.merge([path])  # type: ignore[no-untyped-call]
    assert (metric.name, metric.documentation, metric.type) == ("seen", "Things seen.", "counter")


def test_a_series_that_was_made_is_there_with_zero(path: Path) -> None:
    seen(MetricsFile(path))

    assert read(path) == {("red", "1"): 0.0}


def test_a_later_worker_of_the_slot_goes_on_with_the_numbers(path: Path) -> None:
    seen(MetricsFile(path)).add(2.0)

    later = MetricsFile(path)
    seen(later).add(1.0)
    seen(later, color="blue").add(5.0)

    assert seen(later).value == 3.0
    assert read(path) == {("red", "1"): 3.0, ("blue", "1"): 5.0}
    assert path.stat().st_size == START_BYTES


def test_cells_stay_good_when_the_file_grows(path: Path) -> None:
    file, long = MetricsFile(path), "x" * 1_000
    first = seen(file)
    others = [seen(file, age=f"{number}{long}") for number in range(300)]

    for cell in (first, *others, first):
        cell.add(1.0)

    assert path.stat().st_size == 2 * START_BYTES
    found = read(path)
    assert (found.pop(("red", "1")), len(found), set(found.values())) == (2.0, 300, {1.0})
    assert seen(MetricsFile(path)).value == 2.0


def test_a_worker_that_was_killed_while_it_added_a_series_leaves_a_good_file(path: Path) -> None:
    file = MetricsFile(path)
    seen(file).add(2.0)
    before = path.read_bytes()
    seen(file, color="blue")
    after = path.read_bytes()
    begin, end = (struct.unpack_from("i", image)[0] for image in (before, after))

    for killed_at in range(begin, end + 1):  # the entry is written first, how much is used last
        path.write_bytes(before[:begin] + after[begin:killed_at] + before[killed_at:])
        assert read(path) == {("red", "1"): 2.0}
        later = MetricsFile(path)
        seen(later, color="green").add(1.0)
        seen(later).add(1.0)
        assert read(path) == {("red", "1"): 3.0, ("green", "1"): 1.0}


def test_what_is_used_is_said_after_the_series_is_written(path: Path) -> None:
    """The order that the test before takes for granted."""
    file, told = MetricsFile(path), []

    class Watched:
        """A map that notes where it was written."""

        def __setitem__(self, where: slice, what: bytes) -> None:
            told.append(where.start or 0)
            real[where] = what

    real = file._mapped
    file._mapped = Watched()  # type: ignore[assignment]
    seen(file)

    assert told == [8, 0]


def test_a_file_that_its_maker_did_not_even_begin_is_begun_anew(path: Path) -> None:
    path.touch()
    seen(MetricsFile(path)).add(1.0)

    assert read(path) == {("red", "1"): 1.0}


def test_the_numbers_of_two_processes_with_two_slots_add_up(tmp_path: Path) -> None:
    paths = [tmp_path / "counter_0.db", tmp_path / "counter_1.db"]
    for path in (*paths, paths[0]):
        subprocess.run([sys.executable, "-c", ADD, path], cwd=ROOT, check=True)

    assert read(*paths) == {("red", "1"): 6.0}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for one map and a half."""
    size = f"size={START_BYTES + START_BYTES // 2}"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", tmp_path], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"no disk can be mounted: {made.stderr.decode().strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def assert_filled(folder: Path, how: str, said: bytes) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, folder, how], cwd=ROOT, check=False, capture_output=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")
    metrics = MultiProcessCollector.merge([folder / "counter_0.db"])  # type: ignore[no-untyped-call]
    values = {s.labels["number"]: s.value for metric in metrics for s in metric.samples}
    assert 1_000 < len(values) < 5_000  # what there was room for
    assert values.pop("0") == 2.0
    assert set(values.values()) == {1.0}


def test_a_full_disk_neither_raises_nor_kills_a_worker_that_counts(small_disk: Path) -> None:
    assert_filled(small_disk, "disk", b"No space left on device\n")


def test_nor_does_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    assert_filled(tmp_path, "limit", b"")


def test_numbers_without_a_file_are_counted_for_themselves() -> None:
    unkept = InMemoryMetrics()
    first, second = (unkept.cell("seen", "seen_total", LABELS, "Things seen.") for _ in range(2))

    first.add(2.0)

    assert (first.value, second.value) == (2.0, 0.0)


def of_red(name: str, labels: Labels) -> Labels | None:
    """Ages are added up, and blue is dropped."""
    assert name == "seen_total"
    return None if labels["color"] == "blue" else {**labels, "age": "any"}


def test_numbers_are_added_up_or_dropped_and_their_space_is_given_back(path: Path) -> None:
    file = MetricsFile(path)
    for age in range(3_000):
        seen(file, age=str(age)).add(1.0)
    seen(file, color="blue").add(1.0)
    assert path.stat().st_size > START_BYTES

    file.fold(of_red)
    seen(file, age="any").add(1.0)
    seen(file, color="green").add(2.0)

    assert read(path) == {("red", "any"): 3_001.0, ("green", "1"): 2.0}
    assert path.stat().st_size == START_BYTES
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_where_nothing_is_to_be_added_up_the_file_stays_the_same(path: Path) -> None:
    file = MetricsFile(path)
    cell = seen(file, age="any")
    before = path.stat().st_ino

    file.fold(of_red)
    cell.add(1.0)

    assert path.stat().st_ino == before
    assert read(path) == {("red", "any"): 1.0}


def test_a_reader_that_has_opened_the_file_before_reads_all_of_it(path: Path) -> None:
    file = MetricsFile(path)
    seen(file).add(2.0)
    with path.open("rb") as reader:
        file.fold(of_red)
        whole = reader.read()

    path.with_name("counter_9.db").write_bytes(whole)
    assert read(path.with_name("counter_9.db")) == {("red", "1"): 2.0}
    assert read(path) == {("red", "any"): 2.0}


def test_what_is_left_of_a_worker_that_was_killed_meanwhile_is_written_over(path: Path) -> None:
    file = MetricsFile(path)
    seen(file).add(2.0)
    path.with_suffix(".aside").write_bytes(b"half")

    file.fold(of_red)

    assert read(path) == {("red", "any"): 2.0}


FOLD: Final = """
import sys
from pathlib import Path
from service.observability.metrics_file import MetricsFile
file = MetricsFile(Path(sys.argv[1]))
cell = file.cell("seen", "seen_total", {"color": "red", "age": "1"}, "Things seen.")
cell.add(2.0)
try:
    file.fold(lambda name, labels: {**labels, "age": "any"})
except OSError as error:
    print(error.strerror)
cell.add(1.0)
"""


def test_on_a_full_disk_the_numbers_stay_as_they_were(small_disk: Path) -> None:
    path = small_disk / "counter_0.db"  # beside which there is no room for another
    done = subprocess.run([sys.executable, "-c", FOLD, path], cwd=ROOT, check=True, capture_output=True)

    assert (done.stdout, done.stderr) == (b"No space left on device\n", b"")
    assert read(path) == {("red", "1"): 3.0}
    assert [found.name for found in small_disk.iterdir()] == [path.name]
