"""A record counts as recorded only where a reader finds it, and recording resumes by itself; one process a name."""

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pricing.journal.journal import Journal, named_versions, read
from pricing.journal.open_segment import LOOK_SECONDS
from pricing.journal.segments import segments
from tests.pricing.journal.test_journal import CONTEXT, LARGE, entry, journal_of, let_go, names, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "journal"


class Ticking:
    """A clock that goes on by more than the time between two looks whenever it is read."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        self.now += 2 * LOOK_SECONDS
        return self.now


@pytest.fixture
def lost() -> list[int]:
    """Records that were lost, as the journal says."""
    return []


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def journal(root: Path, clock: Ticking, lost: list[int]) -> Journal:
    """One that has recorded a."""
    journal = Journal(root, "host-1", 0, LARGE, keep_days=1, wall=clock, lost=lost.append)
    assert journal.append(CONTEXT, [entry("a")])
    return journal


def rename_away(root: Path) -> None:
    root.rename(root.with_name("aside"))


def rename_the_folder_above(root: Path) -> None:
    root.parent.rename(root.parent.with_name("aside"))


def put_an_empty_one_in_place(root: Path) -> None:
    rename_away(root)
    root.mkdir()


def put_a_copy_in_place(root: Path) -> None:
    rename_away(root)
    shutil.copytree(root.with_name("aside"), root)


def remove_segments(root: Path) -> None:
    for segment in segments(root):
        segment.path.unlink()


def remove_all_but_segments(root: Path) -> None:
    for path in root.glob(".*"):
        shutil.rmtree(path)


def make_a_file_of_it(root: Path) -> None:
    rename_away(root)
    root.touch()


CHANGES = [
    shutil.rmtree,
    rename_away,
    rename_the_folder_above,
    put_an_empty_one_in_place,
    put_a_copy_in_place,
    remove_segments,
    remove_all_but_segments,
    make_a_file_of_it,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_counts_as_recorded_is_where_a_reader_looks(
    journal: Journal, root: Path, change: Callable[[Path], None]
) -> None:
    change(root)

    kept = [name for name in "bcd" if journal.append(CONTEXT, [entry(name)])]

    found = [name for name, _ in names(root)] if root.is_dir() else []
    assert [name for name in found if name != "a"] == kept


@pytest.mark.parametrize("change", [shutil.rmtree, rename_away, rename_the_folder_above, remove_segments])
def test_records_between_two_looks_are_known_to_be_lost(
    root: Path, clock: Ticking, journal: Journal, lost: list[int], change: Callable[[Path], None]
) -> None:
    assert journal.append(CONTEXT, [entry("b")])
    change(root)
    journal._wall = lambda: clock.now  # it is too early for another look
    assert journal.append(CONTEXT, [entry("c"), entry("d")])
    journal._wall = clock

    journal.append(CONTEXT, [entry("e")])

    assert lost == [3]  # b too: there was no look after it


@pytest.mark.parametrize("change", CHANGES)
def test_recording_resumes_once_the_folder_is_back_and_the_gap_is_what_was_dropped(
    journal: Journal, root: Path, change: Callable[[Path], None]
) -> None:
    change(root)
    dropped = sum(not journal.append(CONTEXT, [entry(name)]) for name in "bc")
    if not root.is_dir():
        root.unlink(missing_ok=True)
        root.mkdir(parents=True)

    assert journal.append(CONTEXT, [entry("d")])

    found = dict(names(root))
    assert found["d"] == 4
    assert len(found.keys() & {"b", "c"}) == 2 - dropped
    assert {path.name for path in (root / ".versions").glob("v*")} <= {"v1.0.0"}  # written again within a second


def test_a_folder_that_comes_back_with_its_records_is_continued(journal: Journal, root: Path) -> None:
    rename_the_folder_above(root)
    assert not journal.append(CONTEXT, [entry("b"), entry("c")])
    root.parent.with_name("aside").rename(root.parent)

    assert journal.append(CONTEXT, [entry("d")])

    assert names(root) == [("a", 1), ("d", 4)]


def test_a_missing_folder_is_not_made_again_below_another_parent(journal: Journal, root: Path) -> None:
    rename_the_folder_above(root)
    root.parent.mkdir()  # where the volume was

    assert not journal.append(CONTEXT, [entry("b")])

    assert list(root.parent.iterdir()) == []


@pytest.fixture
def mounted(root: Path) -> Iterator[Path]:
    """The journal is a volume of its own; it is mounted below `root`."""
    root.mkdir(parents=True)
    mount(root)
    yield root
    subprocess.run(["umount", "--lazy", root], check=False, capture_output=True)


def mount(folder: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs")


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_nothing_is_written_in_place_of_a_volume_that_is_gone(mounted: Path) -> None:
    journal = journal_of(mounted)
    assert journal.append(CONTEXT, [entry("a")])
    unmount(mounted)
    assert not journal.append(CONTEXT, [entry("b")])
    assert list(mounted.iterdir()) == []

    mount(mounted)

    assert journal.append(CONTEXT, [entry("c")])
    assert names(mounted) == [("c", 3)]


def test_a_volume_that_is_mounted_over_the_folder_is_recorded_to(journal: Journal, root: Path) -> None:
    mount(root)
    try:
        assert journal.append(CONTEXT, [entry("b")])
        assert names(root) == [("b", 2)]
    finally:
        unmount(root)


def test_a_volume_that_is_read_only_for_a_while_drops_and_resumes(
    mounted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(mounted, "a")
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    journal = journal_of(mounted)
    assert not journal.append(CONTEXT, [entry("b")])
    assert "cannot be written: Read-only file system" in caplog.text

    subprocess.run(["mount", "-o", "remount,rw", mounted], check=True)

    assert journal.append(CONTEXT, [entry("c")])
    assert names(mounted) == [("a", 1), ("c", 3)]


@pytest.mark.parametrize("size", [0, 10, -10])
def test_a_segment_that_is_truncated_goes_on_behind_its_last_whole_record(
    journal: Journal, root: Path, size: int
) -> None:
    (segment,) = segments(root)
    journal.append(CONTEXT, [entry("b")])
    os.truncate(segment.path, size if size >= 0 else segment.path.stat().st_size + size)
    journal._segment._looked = 0.0  # type: ignore[union-attr]  # it is time for a look

    assert journal.append(CONTEXT, [entry("c")])

    assert names(root) == ([("a", 1)] if size < 0 else []) + [("c", 3)]


def test_a_segment_that_is_truncated_right_after_a_look_holds_whole_lines(
    journal: Journal, root: Path, clock: Ticking
) -> None:
    (segment,) = segments(root)
    journal._segment._looked = clock.now + 2 * LOOK_SECONDS  # type: ignore[union-attr]  # when it is read next
    os.truncate(segment.path, 0)

    assert journal.append(CONTEXT, [entry("b")])

    assert names(root) == [("b", 2)]


def test_what_others_add_behind_the_last_record_is_cut_off(journal: Journal, root: Path) -> None:
    (segment,) = segments(root)
    with segment.path.open("ab") as file:
        file.write(b"garbage")
    journal._segment._looked = 0.0  # type: ignore[union-attr]

    assert journal.append(CONTEXT, [entry("b")])

    assert names(root) == [("a", 1), ("b", 2)]


def test_without_a_prediction_a_missing_folder_is_found_within_a_look(journal: Journal, root: Path) -> None:
    shutil.rmtree(root)

    journal._look()

    assert len(segments(root)) == 1


def test_names_of_versions_that_somebody_removes_are_there_again(journal: Journal, root: Path) -> None:
    shutil.rmtree(root / ".versions")

    journal._look()

    assert named_versions(root) == {"v1.0.0"}
    assert journal.append(CONTEXT._replace(source=CONTEXT.source._replace(model_version="v2.0.0")), [entry("b")])
    assert named_versions(root) == {"v1.0.0", "v2.0.0"}


def test_two_that_share_a_name_write_as_two_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = journal_of(tmp_path), journal_of(tmp_path)
    for name in "ab":
        for journal in (one, two):
            assert journal.append(CONTEXT, [entry(name)])

    written = [(record.instance, record.slot, record.sequence) for record in read(tmp_path)]

    assert len(written) == len(set(written)) == 4
    assert {slot for _, slot, _ in written} == {0, 1}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.messages[0].startswith("another process writes as host-1-0 in the journal in ")
    assert "APPRAISER_INSTANCE" in caplog.messages[0]


def test_a_name_is_free_once_its_process_has_ended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")

    assert names(tmp_path) == [("a", 1), ("b", 2)]
    assert {record.slot for record in read(tmp_path)} == {0}
    assert caplog.messages == []


def test_a_name_that_was_given_way_to_keeps_the_numbers_of_both(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c", slot=1)
    one, two = journal_of(tmp_path), journal_of(tmp_path)
    assert one.append(CONTEXT, [entry("d")])

    assert two.append(CONTEXT, [entry("e")])

    assert {(record.slot, record.sequence) for record in read(tmp_path)} == {(1, 1), (1, 2), (1, 3), (0, 1), (1, 4)}
    for journal in (one, two):
        let_go(journal)
