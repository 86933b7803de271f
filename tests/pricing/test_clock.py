"""The journal while the clock is wrong: nothing is removed, lost or written without end."""

import os
import time
from pathlib import Path
from typing import Final

import pytest

from pricing.clock import ClockWatch, boot_time, is_steady
from pricing.ids import Ids
from pricing.journal.journal import Journal, find, named_versions
from pricing.journal.segments import DAY_SECONDS, segments
from tests.pricing.journal.test_journal import CONTEXT, LARGE, entry, let_go, names

HOUR: Final = 3_600.0
KEEP_DAYS: Final = 2


class Hands:
    """Two clocks that are set by a test. Files have times of the real one, so the wall clock begins there, at noon."""

    def __init__(self) -> None:
        self.wall = time.time()
        self.monotonic = 1_000_000.0

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def journal(self, root: Path, slot: int = 0) -> Journal:
        """As a process that starts now."""
        return Journal(root, "host-1", slot, LARGE, KEEP_DAYS, lambda: self.wall, lambda: self.monotonic)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def journal(tmp_path: Path, hands: Hands) -> Journal:
    """A journal that has been kept for more than a day, with one segment that is compressed, and one version."""
    journal = hands.journal(tmp_path)
    for name in "ab":
        assert journal.append(CONTEXT, [entry(name)])
        journal._until = hands.wall
    retire(journal)
    for _ in range(3):
        hands.go_on(12 * HOUR)
        retire(journal)
    hands.wall = time.time() + 36 * HOUR
    assert finished(tmp_path) == 1
    return journal


def retire(journal: Journal) -> None:
    """As the thread does when an hour is over."""
    journal._sync()
    journal._retired_at = -HOUR
    journal._retire()


def finished(root: Path) -> int:
    return len(list(root.glob("*.zst")))


def kept(root: Path) -> tuple[int, set[str]]:
    return finished(root), {path.name for path in (root / ".versions").glob("v*")}


def test_what_is_too_old_is_removed_once_the_clock_has_gone_on_for_a_day(
    tmp_path: Path, hands: Hands, journal: Journal
) -> None:
    hands.go_on(11 * HOUR)
    retire(journal)
    assert kept(tmp_path) == (1, {"v1.0.0"})

    hands.go_on(2 * HOUR)
    retire(journal)
    assert kept(tmp_path) == (0, {"v1.0.0"})
    hands.go_on(23 * HOUR)
    retire(journal)
    hands.go_on(1 * HOUR)
    retire(journal)

    assert kept(tmp_path) == (0, set())


@pytest.mark.parametrize("days", [2, 401, 40_000])
def test_a_clock_that_is_ahead_for_a_second_and_a_half_removes_nothing(
    tmp_path: Path, hands: Hands, journal: Journal, days: int, caplog: pytest.LogCaptureFixture
) -> None:
    hands.wall += days * DAY_SECONDS
    journal._retire()
    hands.go_on(1.5)
    retire(journal)
    hands.wall -= days * DAY_SECONDS
    retire(journal)

    assert kept(tmp_path) == (1, {"v1.0.0"})
    assert any(
        said.startswith(f"the clock has jumped by {days} days, 0:00:00; nothing is ") for said in caplog.messages
    )


def test_after_a_jump_a_day_is_waited(tmp_path: Path, hands: Hands, journal: Journal) -> None:
    hands.wall += 401 * DAY_SECONDS
    for _ in range(24):
        retire(journal)
        assert kept(tmp_path) == (1, {"v1.0.0"})
        hands.go_on(HOUR)
    hands.go_on(1.0)
    retire(journal)

    assert kept(tmp_path) == (0, set())


def test_a_process_that_starts_while_the_clock_is_ahead_removes_nothing_nor_does_the_next(
    tmp_path: Path, hands: Hands, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    let_go(journal)
    hands.wall += 401 * DAY_SECONDS
    for _ in range(3):
        later = hands.journal(tmp_path)
        assert later.append(CONTEXT, [entry("c")])
        retire(later)
        let_go(later)
        hands.go_on(HOUR)
    hands.wall -= 401 * DAY_SECONDS
    retire(hands.journal(tmp_path))

    assert finished(tmp_path) >= 1
    assert [name for name, _ in names(tmp_path)] == ["a", "b", "c", "c", "c"]
    assert named_versions(tmp_path) == {"v1.0.0"}
    assert sum("ahead of what the journal" in said for said in caplog.messages) == 1
    assert sum("behind what the journal" in said for said in caplog.messages) == 1


def test_while_two_hosts_disagree_about_the_time_nothing_is_removed(
    tmp_path: Path, hands: Hands, journal: Journal
) -> None:
    other = Hands()
    other.wall = hands.wall + 401 * DAY_SECONDS
    theirs = other.journal(tmp_path, slot=1)
    for _ in range(60):
        for mine, clock in ((journal, hands), (theirs, other)):
            clock.go_on(HOUR)
            retire(mine)

    assert kept(tmp_path) == (1, {"v1.0.0"})


def test_a_journal_whose_clock_nobody_has_seen_is_waited_for(tmp_path: Path) -> None:
    assert not is_steady(tmp_path, 1_000.0, jumped=False)
    assert not is_steady(tmp_path, 1_000.0 + DAY_SECONDS - 1, jumped=False)
    assert is_steady(tmp_path, 1_000.0 + DAY_SECONDS, jumped=False)


@pytest.mark.parametrize("seconds", [-DAY_SECONDS, -HOUR - 1, DAY_SECONDS + 1])
def test_a_clock_that_is_not_where_it_was_is_waited_for(tmp_path: Path, seconds: float) -> None:
    is_steady(tmp_path, 1_000_000.0, jumped=False)
    assert is_steady(tmp_path, 1_000_000.0 + DAY_SECONDS, jumped=False)

    assert not is_steady(tmp_path, 1_000_000.0 + DAY_SECONDS + seconds, jumped=False)


def test_small_corrections_of_the_clock_are_no_jumps() -> None:
    hands = Hands()
    watch = ClockWatch(lambda: hands.wall, lambda: hands.monotonic)
    for step in (0.5, -0.5, 30.0):
        hands.go_on(1.0)
        hands.wall += step
        assert watch.look() == (hands.wall, 0.0)
    hands.wall -= HOUR
    assert watch.look()[1] == pytest.approx(-HOUR)
    assert watch.look()[1] == 0.0
    assert boot_time() > 0


def test_names_of_versions_and_ended_segments_get_no_older_when_the_clock_is_set_back(
    tmp_path: Path, hands: Hands, journal: Journal
) -> None:
    def times() -> list[float]:
        paths = [*tmp_path.glob(".versions/*"), *tmp_path.glob("host*")]
        return [path.stat().st_mtime for path in paths]

    before = min(times())
    hands.wall -= 700 * DAY_SECONDS
    assert journal.append(CONTEXT, [entry("c")])
    hands.wall += 700 * DAY_SECONDS
    assert journal.append(CONTEXT, [entry("d")])
    retire(journal)

    assert min(times()) >= before


def test_a_segment_of_a_clock_that_is_years_behind_is_as_old_as_its_end(tmp_path: Path, hands: Hands) -> None:
    journal, now = hands.journal(tmp_path), hands.wall
    hands.wall = 1_000.0
    assert journal.append(CONTEXT, [entry("a")])
    (segment,) = segments(tmp_path)
    os.utime(segment.path, (1_000.0, 1_000.0))
    hands.wall = now
    assert journal.append(CONTEXT, [entry("b")])

    assert segment.path.stat().st_mtime == pytest.approx(now)


@pytest.mark.parametrize("step", [-401 * DAY_SECONDS, -HOUR, HOUR, 401 * DAY_SECONDS])
def test_a_step_of_the_clock_ends_one_segment_at_most_and_loses_nothing(
    tmp_path: Path, hands: Hands, step: float
) -> None:
    hands.wall = hands.wall // DAY_SECONDS * DAY_SECONDS + DAY_SECONDS / 2
    journal = hands.journal(tmp_path)
    ids = Ids(lambda: int(hands.wall * 1e9))
    asked = []
    for by in (0.0, step, -step):
        hands.wall += by
        for _ in range(10):
            hands.go_on(1.0)
            asked.append(ids.one())
            assert journal.append(CONTEXT, [entry(asked[-1])])

    assert [name for name, _ in names(tmp_path)] == asked
    assert [find(tmp_path, name).sequence for name in asked] == list(range(1, 31))
    assert len(segments(tmp_path)) == (1 if abs(step) == HOUR else 3)


@pytest.mark.parametrize("restart", [False, True])
def test_a_segment_that_was_begun_while_the_clock_was_ahead_ends_at_midnight(
    tmp_path: Path, hands: Hands, *, restart: bool
) -> None:
    hands.wall = hands.wall // DAY_SECONDS * DAY_SECONDS + DAY_SECONDS / 2
    journal = hands.journal(tmp_path)
    hands.wall += 401 * DAY_SECONDS
    assert journal.append(CONTEXT, [entry("a")])
    hands.wall -= 401 * DAY_SECONDS
    assert journal.append(CONTEXT, [entry("b")])
    assert len(segments(tmp_path)) == 2

    for day in range(1, 4):
        hands.go_on(DAY_SECONDS)
        if restart:
            let_go(journal)
            journal = hands.journal(tmp_path)
        for name in ("c", "d"):
            assert journal.append(CONTEXT, [entry(f"{name}{day}")])
            os.utime(segments(tmp_path)[-1].path, (hands.wall, hands.wall))
        assert len(segments(tmp_path)) == 2 + day


def test_a_process_that_starts_again_on_the_same_day_continues_a_segment_that_is_named_ahead(
    tmp_path: Path, hands: Hands
) -> None:
    journal = hands.journal(tmp_path)
    hands.wall += 401 * DAY_SECONDS
    assert journal.append(CONTEXT, [entry("a")])
    hands.wall -= 401 * DAY_SECONDS
    for name in "bcd":
        assert journal.append(CONTEXT, [entry(name)])
        let_go(journal)
        journal = hands.journal(tmp_path)

    assert len(segments(tmp_path)) == 2
    assert names(tmp_path) == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
