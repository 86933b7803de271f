"""192 slow clients at once harm nobody, are closed in time, and do not hold up a stop; stock gthread shows the harm."""

from pathlib import Path

from tests.reliability.slow_clients import (
    BODY_SECONDS,
    DRIPS,
    GTHREAD_ARGUMENTS,
    HEADER_SECONDS,
    LONG,
    OUR_WORKER,
    WRITE_SECONDS,
    besiege,
    serve,
    stop_besieged,
)

# Seconds after which each kind is closed, and how late a loaded machine may be.
DEADLINES = {
    "half header": HEADER_SECONDS,
    "half body": BODY_SECONDS,
    DRIPS: HEADER_SECONDS,
    "never closes": WRITE_SECONDS,
}
LATE = 5.0
WATCH = BODY_SECONDS + LATE


def test_good_clients_are_answered_throughout_and_slow_ones_closed_at_their_deadlines(tmp_path: Path) -> None:
    with serve(tmp_path, OUR_WORKER) as server:
        siege = besiege(server, WATCH)
    assert siege.probes
    assert all(probe.answered for probe in siege.probes)
    for kind, deadline in DEADLINES.items():
        assert all(seconds is not None and seconds < deadline + LATE for seconds in siege.closed_after[kind]), kind


def test_a_stop_under_siege_takes_at_most_five_seconds(tmp_path: Path) -> None:
    with serve(tmp_path, OUR_WORKER, limits=LONG) as server:
        assert stop_besieged(server) <= 5


def test_the_same_siege_brings_down_stock_gthread(tmp_path: Path) -> None:
    with serve(tmp_path, "gthread", *GTHREAD_ARGUMENTS) as server:
        siege = besiege(server, WATCH)
    assert not all(probe.answered for probe in siege.probes)
    assert None in siege.closed_after["half header"]
    assert None in siege.closed_after["half body"]
