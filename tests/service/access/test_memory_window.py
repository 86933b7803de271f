"""The moving window in memory: exact, forgetful, bounded."""

import threading
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.memory_window import FORGOTTEN_AT_ONCE, GRAINS, MemoryWindow


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_request_comes_back_when_the_oldest_leaves_the_window(clock: Clock) -> None:
    window = MemoryWindow(2, 60, clock)
    assert window.hit("a") == 0.0
    clock.now = 20.0
    assert window.hit("a") == 0.0

    clock.now = 30.0
    assert window.hit("a") == 30.0
    assert window.hit("b") == 0.0
    clock.now = 60.0
    assert window.hit("a") == 0.0
    assert window.hit("a") == 20.0


@given(
    amount=st.integers(1, 5),
    steps=st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), max_size=100),
)
def test_up_to_a_thousand_requests_it_is_exact(amount: int, steps: list[tuple[int, str]]) -> None:
    clock = Clock()
    window = MemoryWindow(amount, 10, clock)
    passed: dict[str, list[float]] = defaultdict(list)
    for step, client in steps:
        clock.now += step
        inside = [moment for moment in passed[client] if moment > clock.now - 10]
        expected = 0.0 if len(inside) < amount else inside[0] + 10 - clock.now
        assert window.hit(client) == expected
        if not expected:
            passed[client].append(clock.now)


def test_above_a_thousand_no_window_holds_more_and_a_request_comes_back_a_thousandth_late_at_most(clock: Clock) -> None:
    amount, seconds = 3 * GRAINS, 100.0
    grain = seconds / GRAINS
    window = MemoryWindow(amount, seconds, clock)
    passed: list[float] = []
    refused = 0
    for number in range(30 * GRAINS):
        clock.now += (number * 7 % 11) / 1_000  # 150 s, at twice the limit
        if window.hit("a") == 0.0:
            passed.append(clock.now)
            assert len(passed) <= amount or passed[-amount - 1] <= clock.now - seconds
        else:
            refused += 1
            assert passed[-amount] > clock.now - seconds - grain

    assert refused > GRAINS
    assert window._entries <= GRAINS + 1


def test_a_refused_request_uses_up_nothing(clock: Clock) -> None:
    window = MemoryWindow(1, 1, clock)
    window.hit("a")
    for _ in range(9):
        clock.now += 0.1
        assert window.hit("a") > 0
    clock.now = 1.0

    assert window.hit("a") == 0.0


def test_clients_are_forgotten_after_their_window_a_few_with_each_request_and_without_a_thread(clock: Clock) -> None:
    threads = threading.active_count()
    window = MemoryWindow(5, 1, clock)
    for round_ in range(10):
        for number in range(1_000):
            window.hit(f"{round_} {number}")
        assert len(window) <= 1_000 + FORGOTTEN_AT_ONCE
        clock.now += 1.0

    remembered = len(window)
    window.hit("a")
    assert len(window) == remembered + 1 - FORGOTTEN_AT_ONCE
    for _ in range(remembered // FORGOTTEN_AT_ONCE):
        window.hit("a")
    assert (len(window), window._entries) == (1, 5)
    assert threading.active_count() == threads


def test_what_is_remembered_is_bounded_and_the_silent_are_forgotten_first(clock: Clock) -> None:
    window = MemoryWindow(2, 3_600, clock, most_clients=100)
    window.hit("silent")
    window.hit("silent")
    for number in range(1_000):
        clock.now += 0.001
        window.hit(f"{number}")
        if number < 90:
            assert window.hit("silent") > 0
    assert len(window) == 100
    assert window._entries == 100
    assert window.hit("silent") == 0.0


def test_requests_are_bounded_over_all_clients(clock: Clock) -> None:
    window = MemoryWindow(50, 3_600, clock, most_entries=200)
    for number in range(1_000):
        clock.now += 0.001
        window.hit(f"{number // 50}")

    assert 150 <= window._entries <= 200
    assert window._entries == sum((len(log) - 2) // 2 for log in window._logs.values())


def test_the_table_shrinks_after_a_flood(clock: Clock) -> None:
    window = MemoryWindow(5, 1, clock)
    for number in range(10_000):
        window.hit(f"{number}")
    flooded = window._logs.__sizeof__()
    clock.now = 1.0
    for _ in range(10_000 // FORGOTTEN_AT_ONCE + 1):
        window.hit("a")

    assert window._logs.__sizeof__() < flooded / 16


def test_threads_share_one_limit() -> None:
    window = MemoryWindow(1_000, 3_600)
    passed: list[int] = []

    def ask() -> None:
        passed.append(sum(window.hit("a") == 0.0 for _ in range(500)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(passed) == 1_000
