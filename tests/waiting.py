"""Waiting for what another process or thread does, which nothing tells us but a look."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 30.0  # for what takes a second on an idle machine; a test that meets it has failed
LOOK_SECONDS = 0.01


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return when `condition` holds. Raises AssertionError when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not come about within {seconds:g} s"
        time.sleep(LOOK_SECONDS)


def sleep_until(moment: float) -> None:
    """Keep a pace: return at a moment of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))
