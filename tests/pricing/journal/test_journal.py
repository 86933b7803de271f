"""The journal keeps what it was given, in order and once, whatever happens to its writer, its disk and its files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from pricing.errors import DamagedJournalError, UnknownPredictionError
from pricing.ids import Ids, moment
from pricing.journal.journal import Context, Entry, Journal, Record, Source, find, named_versions, read
from pricing.journal.segments import (
    BLOCK,
    DAY_SECONDS,
    LONGEST,
    MAX_REFUSED,
    ORPHANED_SECONDS,
    hold,
    retire,
    segments,
)
from tests.waiting import wait_until

ROOT: Final = Path(__file__).parents[3]
SOURCE: Final = Source(7, "v1.0.0", "champion", "0" * 64, 0.9, cache_hit=False)
CONTEXT: Final = Context(SOURCE, "2026-11-24T08:22:39.747+00:00", "abc-1", None)
HOUSE: Final = {"square_feet": 0.1, "bedrooms": 3.0, "bathrooms": 2.0, "age_years": 10.0, "distance_to_city": 5.1}
LARGE: Final = 1 << 20


def entry(name: str) -> Entry:
    return (name, HOUSE, 413989.5723036894, 355882.2494271333, 481584.47422448115)


def journal_of(root: Path, slot: int = 0, segment_bytes: int = LARGE) -> Journal:
    return Journal(root, "host-1", slot, segment_bytes, keep_days=1)


def write(root: Path, *names: str, slot: int = 0, segment_bytes: int = LARGE) -> None:
    """As a worker that starts, answers and ends, without its thread."""
    journal = journal_of(root, slot, segment_bytes)
    for name in names:
        assert journal.append(CONTEXT, [entry(name)])
    let_go(journal)


def let_go(journal: Journal) -> None:
    """What the end of its process does."""
    journal.close()


def names(root: Path) -> list[tuple[str, int]]:
    return [(record.prediction_id, record.sequence) for record in read(root)]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    assert journal.append(CONTEXT, [entry("a"), entry("b")])

    first, second = read(tmp_path)

    assert first == Record(
        prediction_id="a",
        sequence=1,
        house=HOUSE,
        predicted_price=413989.5723036894,
        lower=355882.2494271333,
        upper=481584.47422448115,
        predicted_at=datetime(2026, 11, 24, 8, 22, 39, 747_000, UTC),
        instance="host-1",
        slot=0,
        request_id="abc-1",
        key_id=None,
        **SOURCE._asdict(),
    )
    assert second == first.model_copy(update={"prediction_id": "b", "sequence": 2})


def test_a_writer_goes_on_where_the_one_before_has_ended(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    write(tmp_path, "c")
    write(tmp_path, "d", slot=1)

    assert names(tmp_path) == [("a", 1), ("b", 2), ("c", 3), ("d", 1)]
    assert len(segments(tmp_path)) == 2


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"x" * 200_000, b'{"a":1', b"{}\n\0\0", b'{"half":\n'])
def test_a_torn_tail_is_mended_wherever_it_was_cut(tmp_path: Path, garbage: bytes) -> None:
    write(tmp_path, "a", "b")
    (segment,) = segments(tmp_path)
    whole = segment.path.read_bytes()
    begin = whole.index(b"\n") + 1
    for cut in range(begin, len(whole)) if not garbage else (begin,):
        segment.path.write_bytes(whole[:cut] + garbage)

        write(tmp_path, "c")

        assert names(tmp_path) == [("a", 1), ("c", 2)]
        assert segment.path.read_bytes().endswith(b"}\n")  # nothing is left behind it


@pytest.mark.parametrize(
    "line",
    [
        b"\0",
        b"x",
        b"x\n",
        b"}\n",
        b'{"sequence":1}\n',
        b'{"prediction_id":"a","sequence":1,\n',
    ],
)
@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, 2 * BLOCK + LONGEST])
def test_a_tail_of_any_length_is_cut_off_whatever_it_holds(tmp_path: Path, line: bytes, size: int) -> None:
    write(tmp_path, "a", "b")
    (segment,) = segments(tmp_path)
    whole = segment.path.read_bytes()
    segment.path.write_bytes(whole + (line * size)[:size])

    write(tmp_path, "c")

    assert names(tmp_path) == [("a", 1), ("b", 2), ("c", 3)]


@pytest.mark.parametrize(
    "line", [b'{"prediction_id":"","sequence":1,}\n', b'{"prediction_id":"","sequence":1,"sequence":"x"}\n']
)
def test_lines_that_look_like_records_are_cut_off_unless_there_are_more_than_a_crash_leaves(
    tmp_path: Path, line: bytes
) -> None:
    write(tmp_path, "a", "b")
    (segment,) = segments(tmp_path)
    whole = segment.path.read_bytes()
    segment.path.write_bytes(whole + line * 1_000 + line[:5])
    write(tmp_path, "c")
    assert names(tmp_path) == [("a", 1), ("b", 2), ("c", 3)]

    segment.path.write_bytes(whole + line * MAX_REFUSED + line[:5])
    write(tmp_path, "c")

    with pytest.raises(DamagedJournalError, match="a line of the journal is not a valid record"):
        names(tmp_path)
    assert Record.parse(segment.path.read_bytes().splitlines()[-1]).prediction_id == "c"


@pytest.mark.parametrize("shift", [-700, -600, -300, -2, -1, 0, 1, 2])
def test_the_last_record_is_found_where_two_blocks_meet(tmp_path: Path, shift: int) -> None:
    write(tmp_path, "a", "b")
    (segment,) = segments(tmp_path)
    whole = segment.path.read_bytes()
    segment.path.write_bytes(whole + b"x" * (BLOCK - len(whole) // 2 - shift))

    write(tmp_path, "c")

    assert names(tmp_path) == [("a", 1), ("b", 2), ("c", 3)]


def test_of_two_with_the_same_name_each_has_a_file_of_its_own(tmp_path: Path) -> None:
    one, two = journal_of(tmp_path), journal_of(tmp_path)
    one.append(CONTEXT, [entry("a")])
    two.append(CONTEXT, [entry("b")])
    one.append(CONTEXT, [entry("c")])

    assert len(segments(tmp_path)) == 2
    assert {name for name, _ in names(tmp_path)} == {"a", "b", "c"}


FULL: Final = """
import resource, sys
from pathlib import Path
from pricing.journal.journal import read
from tests.pricing.journal.test_journal import CONTEXT, entry, journal_of
root = Path(sys.argv[1])
journal = journal_of(root)
assert journal.append(CONTEXT, [entry("a")])
(segment,) = root.glob("*.jsonl")
resource.setrlimit(resource.RLIMIT_FSIZE, (segment.stat().st_size + int(sys.argv[2]), resource.RLIM_INFINITY))
print([journal.append(CONTEXT, [entry(name), entry(name + "2")]) for name in "bc"])
print(segment.read_bytes().count(b"\\n"), segment.read_bytes()[-1:])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(journal.append(CONTEXT, [entry("d")]))
"""


@pytest.mark.parametrize("room", [0, 1, 700])
def test_a_write_that_is_cut_short_leaves_nothing_and_the_gap_is_what_was_dropped(tmp_path: Path, room: int) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path), str(room)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert found.stdout.splitlines() == ["[False, False]", r"1 b'\n'", "True"]
    assert names(tmp_path) == [("a", 1), ("d", 6)]
    said = found.stderr.splitlines()
    assert [line.partition(":")[0] for line in said[:1]] == [f"the journal in {tmp_path} cannot be written"]
    assert said[1:] == ["the journal records again; it has dropped 4 predictions"]


def test_a_folder_that_cannot_be_made_drops_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "journal").touch()
    journal = journal_of(tmp_path / "journal")
    assert not journal.append(CONTEXT, [entry("a")])

    (tmp_path / "journal").unlink()

    assert journal.append(CONTEXT, [entry("b")])
    assert names(tmp_path / "journal") == [("b", 2)]


def test_a_full_segment_is_ended_compressed_and_read_as_before(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, segment_bytes=1_000)
    journal.start()
    ids = Ids().take(20)
    for name in ids:
        assert journal.append(CONTEXT, [entry(name)])
    wait_until(lambda: len(list(tmp_path.glob("*.jsonl.zst"))) == 9)
    journal.stop()

    assert names(tmp_path) == [(name, number) for number, name in enumerate(ids, 1)]
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    assert [find(tmp_path, name).sequence for name in ids] == list(range(1, 21))
    let_go(journal)
    (only,) = tmp_path.glob("*.jsonl")
    only.unlink()
    write(tmp_path, "z")
    assert names(tmp_path)[-1] == ("z", 19)  # it goes on from what is compressed


def test_a_segment_of_yesterday_is_ended(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (segment,) = segments(tmp_path)
    segment.path.rename(tmp_path / "host-1-0-20200101T000000.000000Z.jsonl")

    write(tmp_path, "b")

    assert [found.begun.year > 2020 for found in segments(tmp_path)] == [False, True]
    assert names(tmp_path) == [("a", 1), ("b", 2)]


def test_a_segment_is_ended_at_midnight_while_its_writer_goes_on(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    journal.append(CONTEXT, [entry("a")])
    assert 0 < journal._until - time.time() <= DAY_SECONDS
    assert journal._until % DAY_SECONDS == 0

    journal._until = time.time()
    journal.append(CONTEXT, [entry("b")])

    assert len(segments(tmp_path)) == 2
    assert names(tmp_path) == [("a", 1), ("b", 2)]


def test_who_was_killed_between_two_steps_of_compressing_has_lost_and_doubled_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    (segment,) = segments(tmp_path)
    plain = segment.path.read_bytes()
    aside = tmp_path / ".aside" / segment.path.name
    aside.parent.mkdir()
    aside.write_bytes(b"half")  # before the rename
    assert names(tmp_path) == [("a", 1), ("b", 2)]
    retire(tmp_path, segment.writer, 100 * DAY_SECONDS, time.time())
    assert names(tmp_path) == [("a", 1), ("b", 2)]
    segment.path.write_bytes(plain)  # after it
    assert len(list(tmp_path.glob("host*"))) == 2

    assert names(tmp_path) == [("a", 1), ("b", 2)]
    retire(tmp_path, segment.writer, 100 * DAY_SECONDS, time.time())
    assert [path.name for path in tmp_path.glob("*host*")] == [f"{segment.path.name}.zst"]


def test_others_compress_only_what_was_left_alone_and_is_held_by_nobody(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (segment,) = segments(tmp_path)
    now = segment.path.stat().st_mtime
    retire(tmp_path, "another-0", 100 * DAY_SECONDS, now + ORPHANED_SECONDS - 1)
    assert segment.path.exists()

    handle = hold(segment.path, 0)
    assert handle is not None
    retire(tmp_path, "another-0", 100 * DAY_SECONDS, now + ORPHANED_SECONDS + 1)
    assert segment.path.exists()

    os.close(handle)
    retire(tmp_path, "another-0", 100 * DAY_SECONDS, now + ORPHANED_SECONDS + 1)
    assert not segment.path.exists()
    assert names(tmp_path) == [("a", 1)]


def test_what_is_too_old_is_removed_and_the_versions_that_it_named_a_day_later(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (segment,) = segments(tmp_path)
    written = segment.path.stat().st_mtime - 3_000.0  # as if nothing had come since
    for path in (segment.path, tmp_path / ".versions" / "v1.0.0"):
        os.utime(path, (written, written))
    retire(tmp_path, segment.writer, DAY_SECONDS, written)
    assert names(tmp_path) == [("a", 1)]  # compressed, and as old as before

    retire(tmp_path, segment.writer, DAY_SECONDS, written + DAY_SECONDS - 10)
    assert names(tmp_path) == [("a", 1)]
    retire(tmp_path, segment.writer, DAY_SECONDS, written + DAY_SECONDS + 10)
    assert (names(tmp_path), named_versions(tmp_path)) == ([], {"v1.0.0"})
    retire(tmp_path, segment.writer, DAY_SECONDS, written + 2 * DAY_SECONDS + 10)
    assert named_versions(tmp_path) == set()


def test_a_segment_that_somebody_removes_is_followed_by_another(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    journal.start()
    journal.append(CONTEXT, [entry("a")])
    (segment,) = segments(tmp_path)
    segment.path.unlink()
    wait_until(lambda: len(segments(tmp_path)) == 1)

    journal.append(CONTEXT, [entry("b")])
    journal.stop()

    assert names(tmp_path) == [("b", 2)]


WRITER: Final = """
import sys
from pathlib import Path
from pricing.ids import Ids
from tests.pricing.journal.test_journal import CONTEXT, entry, journal_of
journal, ids = journal_of(Path(sys.argv[1]), segment_bytes=20_000), Ids()
journal.start()
while True:
    batch = ids.take(3)
    if journal.append(CONTEXT, [entry(name) for name in batch]):
        sys.stdout.write(" ".join(batch) + "\\n")
        sys.stdout.flush()
"""


def acknowledged(root: Path, lines: int) -> Iterator[str]:
    """What a writer says that it has written, before and after it is killed."""
    command = [sys.executable, "-c", WRITER, str(root)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(lines):
            yield from process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            if line.endswith("\n"):
                yield from line.split()


def test_a_killed_writer_loses_nothing_that_it_has_acknowledged(tmp_path: Path) -> None:
    told = [name for number in range(8) for name in acknowledged(tmp_path, 30 + 7 * number)]

    found = names(tmp_path)

    assert len(told) > 1_000
    assert set(told) <= {name for name, _ in found}
    assert [number for _, number in found] == list(range(1, len(found) + 1))
    assert len({name for name, _ in found}) == len(found)


@pytest.mark.parametrize("suffix", ["", ".zst"])
@pytest.mark.parametrize("days", [-401, -1 / 24, 1 / 24, 401])
def test_a_prediction_is_found_whatever_its_clock_showed(tmp_path: Path, days: float, suffix: str) -> None:
    wrong = Ids(lambda: time.time_ns() + int(days * DAY_SECONDS) * 1_000_000_000)
    asked = [*Ids().take(2), *wrong.take(2), *Ids().take(1)]
    for slot, name in enumerate(asked):
        write(tmp_path, name, slot=slot % 2)
    if suffix:
        for writer in ("host-1-0", "host-1-1"):
            retire(tmp_path, writer, None, time.time())

    assert [find(tmp_path, name).prediction_id for name in asked] == asked


def test_a_prediction_is_found_beside_a_segment_that_is_damaged(tmp_path: Path) -> None:
    asked, missing = Ids().take(2)
    write(tmp_path, asked)
    damaged = tmp_path / "host-2-0-20200101T000000.000000Z.jsonl.zst"
    damaged.write_bytes(b"damaged")

    assert find(tmp_path, asked).prediction_id == asked
    with pytest.raises(DamagedJournalError, match=r"2020.* of the journal is damaged: "):
        find(tmp_path, missing)


@pytest.mark.parametrize("where", [0, BLOCK - 30, BLOCK - 300, 3 * BLOCK])
def test_a_record_is_found_where_two_blocks_meet(tmp_path: Path, where: int) -> None:
    asked = Ids().one()
    write(tmp_path, asked)
    (segment,) = segments(tmp_path)
    other = b"{" + b"x" * 998 + b"\n"
    record = segment.path.read_bytes()
    segment.path.write_bytes((other * (where // 1_000)) + b"y" * (where % 1_000) + b"\n" + record + other * 2_000)

    assert find(tmp_path, asked).prediction_id == asked


def test_a_writer_starts_although_its_last_segment_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "host-1-0-20200101T000000.000000Z.jsonl.zst").write_bytes(b"damaged")

    write(tmp_path, "a")

    assert "damaged" in caplog.text
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_who_asks_for_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownPredictionError, match=r"^'x' is not a prediction_id; they look like "):
        find(tmp_path, "x")
    with pytest.raises(UnknownPredictionError, match=r"^prediction 018cc4d1-.* 2024-01-01 11:38 UTC$"):
        find(tmp_path, "018cc4d1-5e00-7b3a-9f1c-4a7be93d0c55")


def test_a_line_that_is_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "host-1-0-20260101T000000.000000Z.jsonl").write_text('{"prediction_id": 7}\n')

    with pytest.raises(DamagedJournalError, match=r"^a line of the journal is not a valid record: prediction_id: "):
        names(tmp_path)


class TestIds:
    def test_they_rise_within_and_over_milliseconds_and_when_the_clock_is_set_back(self) -> None:
        times = iter([5_000_000, 5_100_000, 6_000_000, 1_000_000, 1_000_000, 7_000_000])
        ids = Ids(lambda: next(times))

        found = [name for count in (1, 2, 1, 3, 1, 1) for name in ids.take(count)]

        assert found == sorted(set(found))

    @pytest.mark.parametrize("step", [-3_600, 3_600])
    def test_they_rise_when_the_clock_is_set_by_an_hour_and_back(self, step: int) -> None:
        seconds = [*range(100, 110), *range(110 + step, 120 + step), *range(120, 130)]
        times = iter([10_000 * 1_000_000_000 + second * 1_000_000_000 for second in seconds])
        ids = Ids(lambda: next(times))

        found = [ids.one() for _ in seconds]

        assert found == sorted(set(found))
        assert all(moment(name) for name in found)

    def test_they_say_when_they_were_made(self) -> None:
        name = Ids(lambda: 1_700_000_000_123_456_789).one()

        assert moment(name) == datetime.fromtimestamp(1_700_000_000.123, UTC)

    @pytest.mark.parametrize(
        "name", ["", "x", "018cc4d1-5e00-4b3a-9f1c-4a7be93d0c55", "018CC4D1-5E00-7B3A-9F1C-4A7BE93D0C55"]
    )
    def test_what_is_none_is_none(self, name: str) -> None:
        assert moment(name) is None

    def test_those_of_two_processes_are_never_the_same(self) -> None:
        one, two = (Ids(lambda: 5_000_000).take(1_000) for _ in range(2))

        assert not set(one) & set(two)
