"""A file that is followed: what fails is tried again, what is damaged is not, and what was read last stays."""

import pytest

from pricing.errors import DamagedKeysError, UnreadableKeysError
from pricing.files.followed_file import FollowedFile

OPEN_FILES = UnreadableKeysError("Too many open files")
PERMISSION = UnreadableKeysError("Permission denied")
DAMAGED = DamagedKeysError("Invalid JSON")


class File:
    """What is on a disk, and what goes wrong there."""

    def __init__(self) -> None:
        self.stamp: tuple[int, int, int, int] | None = (1, 0, 0, 0)
        self.content: object = "old"
        self.look_fails: Exception | None = None
        self.read_fails: Exception | None = None
        self.reads = 0

    def look(self) -> tuple[int, int, int, int] | None:
        if self.look_fails:
            raise self.look_fails
        return self.stamp

    def read(self) -> object:
        self.reads += 1
        if self.read_fails:
            raise self.read_fails
        return self.content

    def replace(self, content: str) -> None:
        self.stamp = (self.stamp or (0, 0, 0, 0))[0] + 1, 0, 0, 0
        self.content = content


@pytest.fixture
def file() -> File:
    return File()


@pytest.fixture
def followed(file: File) -> FollowedFile[object]:
    return FollowedFile(file.look, file.read)


def test_it_is_read_once_for_each_change(file: File, followed: FollowedFile[object]) -> None:
    assert [followed.look() for _ in range(3)] == [True, False, False]
    file.replace("new")
    assert [followed.look() for _ in range(3)] == [True, False, False]

    assert (followed.value, followed.failure, file.reads) == ("new", None, 2)


@pytest.mark.parametrize("at", ["look", "read"])
def test_a_failed_read_is_repeated_until_it_succeeds_and_the_last_value_stays(
    file: File, followed: FollowedFile[object], at: str
) -> None:
    followed.look()
    file.replace("new")
    setattr(file, f"{at}_fails", OPEN_FILES)

    assert [followed.look() for _ in range(3)] == [True, False, False]
    assert (followed.value, followed.failure) == ("old", OPEN_FILES)

    setattr(file, f"{at}_fails", PERMISSION)
    assert [followed.look() for _ in range(3)] == [True, False, False]  # another reason is news
    setattr(file, f"{at}_fails", None)
    assert [followed.look() for _ in range(3)] == [True, False, False]
    assert (followed.value, followed.failure) == ("new", None)


@pytest.mark.parametrize("at", ["look", "read"])
def test_what_could_not_be_read_at_the_start_is_read_later(file: File, followed: FollowedFile[object], at: str) -> None:
    setattr(file, f"{at}_fails", OPEN_FILES)
    assert followed.look()
    assert (followed.value, followed.failure) == (None, OPEN_FILES)

    setattr(file, f"{at}_fails", None)
    assert followed.look()
    assert (followed.value, followed.failure) == ("old", None)


@pytest.mark.parametrize("at", ["look", "read"])
def test_a_failure_ends_when_the_same_file_is_there_again(file: File, followed: FollowedFile[object], at: str) -> None:
    followed.look()
    setattr(file, f"{at}_fails", PERMISSION)
    if at == "read":
        file.stamp = (2, 0, 0, 0)
    followed.look()

    setattr(file, f"{at}_fails", None)
    file.stamp = (1, 0, 0, 0)

    assert followed.look()
    assert (followed.value, followed.failure) == ("old", None)


def test_damaged_content_is_not_read_again_before_the_file_changes(file: File, followed: FollowedFile[object]) -> None:
    followed.look()
    file.replace("new")
    file.read_fails = DAMAGED

    assert [followed.look() for _ in range(3)] == [True, False, False]
    assert (followed.value, followed.failure, file.reads) == ("old", DAMAGED, 2)

    file.read_fails = None
    assert not followed.look()
    file.replace("newer")
    assert followed.look()
    assert (followed.value, followed.failure) == ("newer", None)


def test_a_change_between_stamp_and_read_is_found_by_the_next_look(file: File) -> None:
    def read() -> object:
        found = file.read()
        if file.reads == 1:
            file.replace("new")
        return found

    followed = FollowedFile(file.look, read)

    looks = [(followed.look(), followed.value) for _ in range(3)]
    assert looks == [(True, "old"), (True, "new"), (False, "new")]
