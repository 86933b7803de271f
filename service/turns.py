"""Answers that take long, made in steps, so that the requests that come meanwhile do not wait for their end."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[], bool]


class Turns:
    """Does one step in each turn of an event loop, which serves all of its sockets between two.

    First come, first served: the next one begins when the one before it is done. So what a step leaves for the next is
    in memory once, however many wait.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """Take what lets a loop call something in its next turn."""
        self._in_next_turn = call_soon
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
        if not self._steps:
            return
        step, is_done = self._steps[0], True
        try:
            is_done = step()
        finally:  # one that raises is done too, and the others go on
            if is_done:
                self.leave(step)
            self._call_soon()

    def _call_soon(self) -> None:
        if self._steps and not self._is_due:
            self._is_due = True
            self._in_next_turn(self._turn)
