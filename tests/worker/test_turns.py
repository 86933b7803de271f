"""Steps of long answers: one in each turn of the loop, first come, first served."""

from collections.abc import Callable

import pytest

from worker.turns import Turns


class Loop:
    """A loop whose turns a test takes."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.due.append(callback)

    def turn(self) -> int:
        """Do what is due, and not what becomes due by that; returns how many that were."""
        due, self.due = self.due, []
        for callback in due:
            callback()
        return len(due)


class Work:
    """So many steps."""

    def __init__(self, name: str, count: int, seen: list[str]) -> None:
        self.name, self.count, self.seen = name, count, seen

    def step(self) -> bool:
        self.seen.append(self.name)
        self.count -= 1
        return not self.count


def test_a_turn_has_one_step_and_the_first_to_come_is_done_first() -> None:
    loop, seen = Loop(), list[str]()
    turns = Turns(loop.call_soon, turn_seconds=0)
    for name in "ab":
        turns.join(Work(name, 3, seen).step)

    for count in range(1, 7):
        assert loop.turn() == 1
        assert len(seen) == count
    assert "".join(seen) == "aaabbb"
    assert loop.turn() == 0


def test_no_step_begins_when_the_time_of_a_turn_is_over() -> None:
    loop, seen, clock = Loop(), list[str](), iter(range(100))
    turns = Turns(loop.call_soon, turn_seconds=3, clock=lambda: next(clock))  # a step takes a second
    for name in "ab":
        turns.join(Work(name, 4, seen).step)

    assert [(loop.turn(), "".join(seen)) for _ in range(4)] == [
        (1, "aaa"),
        (1, "aaaabb"),
        (1, "aaaabbbb"),
        (0, "aaaabbbb"),
    ]


@pytest.mark.parametrize(("leaves", "left"), [(0, "abb"), (1, "aa"), (2, "aabb")])
def test_who_leaves_has_no_further_step_and_the_others_go_on(leaves: int, left: str) -> None:
    loop, seen = Loop(), list[str]()
    turns = Turns(loop.call_soon, turn_seconds=0)
    work = [Work(name, 2, seen) for name in "abc"]
    for one in work[:2]:
        turns.join(one.step)
    loop.turn()
    turns.leave(work[leaves].step)
    while loop.due:
        assert loop.turn() == 1

    assert "".join(seen) == left


def test_who_comes_when_all_have_left_takes_single_turns_too() -> None:
    loop, seen = Loop(), list[str]()
    turns = Turns(loop.call_soon, turn_seconds=0)
    first, second = Work("a", 2, seen), Work("b", 2, seen)
    turns.join(first.step)
    turns.leave(first.step)
    turns.join(second.step)

    assert [loop.turn() for _ in range(3)] == [1, 1, 0]
    assert "".join(seen) == "bb"


def test_a_step_that_raises_is_the_last_of_its_answer_and_of_no_other() -> None:
    loop, seen = Loop(), list[str]()
    turns = Turns(loop.call_soon, turn_seconds=0)

    def fails() -> bool:
        message = "on purpose"
        raise ValueError(message)

    turns.join(fails)
    turns.join(Work("b", 2, seen).step)

    with pytest.raises(ValueError, match="on purpose"):
        loop.turn()
    assert [loop.turn() for _ in range(3)] == [1, 1, 0]
    assert "".join(seen) == "bb"
