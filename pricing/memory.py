"""Memory of former models and of compression goes back to the system, where the C library is glibc; cycles can wait."""

import ctypes
import gc
from typing import Final

M_ARENA_MAX: Final = -8  # of malloc.h
# Made and not yet freed; a batch of 1,000 houses has 5,000 in hand. A connection that is over is a cycle, so many more
# would be many megabytes of such: with 100,000, two workers had 35 MB more after 100 swaps under load.
NEW_CONTAINERS: Final = 10_000


def use_one_arena() -> None:
    """Let all threads allocate from one arena. To be called before there are threads.

    Models are loaded in a thread of their own, which would get an arena for itself. Memory that is freed there is
    reused badly: a worker's own memory wavers between 70 and 84 MB over 200 swaps of the same three models. From one
    arena it creeps from 70 to 74, and after 500 swaps to 76, where it stays.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(M_ARENA_MAX, 1)


def raise_gc_threshold() -> None:
    """Look for cycles once in a while, not seven times in every batch.

    Predictions make none, so counting references frees them. By Python's default (700) looking took 35 % of a batch of
    1,000 houses.
    """
    gc.set_threshold(NEW_CONTAINERS, *gc.get_threshold()[1:])


def trim_heap() -> None:
    """Return free pages to the system. Takes 2 ms; without it a worker would keep 100 MB of former models."""
    gc.collect(1)  # the young: connections that are over, between which no page would be free
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
