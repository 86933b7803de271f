"""Answers that take long, made in steps, so that the requests that come meanwhile do not wait for their end.

TURN_SECONDS is the compromise between the two. Of a worker whose other clients ask as fast as it answers, batches get
what they take of each turn: nine tenths of the time with 3 ms a turn, half of it with one step.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[], bool]

TURN_SECONDS: Final = 0.0025


class Turns:
    """Does steps for a while in each turn of an event loop, which serves all of its sockets between two.

    First come, first served: the next one begins when the one before it is done. So what a step leaves for the next is
    in memory once, however many wait.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        turn_seconds: float = TURN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what lets a loop call something in its next turn. No step begins `turn_seconds` after the first one."""
        self._in_next_turn = call_soon
        self._turn_seconds = turn_seconds
        self._clock = clock
        self._steps: deque[Step] = deque()
        self._is_due = False  # whether the loop will call `_turn`

    def join(self, step: Step) -> None:
        """Call `step` again and again, from the next turn on, until it returns True: it is done."""
        self._steps.append(step)
        self._call_soon()

    def leave(self, step: Step) -> None:
        """Call it no more."""
        if step in self._steps:
            self._steps.remove(step)

    def _turn(self) -> None:
        self._is_due = False
        until = self._clock() + self._turn_seconds
        try:
            while self._steps:
                self._step()
                if self._clock() >= until:
                    break
        finally:
            self._call_soon()

    def _step(self) -> None:
        step, is_done = self._steps[0], True
        try:
            is_done = step()
        finally:  # one that raises is done too, and the others go on
            if is_done:
                self.leave(step)

    def _call_soon(self) -> None:
        if self._steps and not self._is_due:
            self._is_due = True
            self._in_next_turn(self._turn)
