"""What the limit of requests in memory costs: a million addresses, each once, within and after their window.

    python -m benchmarks.rate_limit [--addresses 1000000]

In process, on a clock of its own: all addresses fall into one window of a minute. Printed: microseconds of a request,
and memory.
"""

import argparse
import statistics
import time
from array import array
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from service.access.client_address import Clients
from service.access.memory_window import FORGOTTEN_AT_ONCE, MAX_CLIENTS, MemoryWindow

SECONDS: Final = 60.0
AMOUNT: Final = 100
SAMPLE: Final = 20_000  # requests
PAGE: Final = 4_096
BEHIND_A_PROXY: Final = Clients((IPv4Network("127.0.0.1/32"),))  # reading addresses must not keep memory either


class Clock:
    """A time that the benchmark sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def megabytes() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE / 1e6


def address(number: int) -> str:
    """The number as an address."""
    return f"{number >> 24 & 255}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def costs(window: MemoryWindow, client: Callable[[int], str], count: int) -> Sequence[float]:
    """Microseconds of each request."""
    found = array("d", bytes(8 * count))  # made before, so that what grows is the window
    for number in range(count):
        name = BEHIND_A_PROXY.of({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": client(number)})
        begun = time.perf_counter()
        window.hit(name)
        found[number] = 1e6 * (time.perf_counter() - begun)
    return found


def told(found: Sequence[float]) -> str:
    """Median and p99."""
    return f"median {statistics.median(found):5.2f} µs, p99 {statistics.quantiles(found, n=100)[98]:5.2f} µs"


def main() -> None:
    """Print the costs before, within and after the window of all addresses, and the memory in it and after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addresses", type=int, default=1_000_000)
    addresses = parser.parse_args().addresses
    clock = Clock()
    window = MemoryWindow(AMOUNT, SECONDS, clock)
    empty = megabytes()

    def one_of_ten(number: int) -> str:
        clock.now += SECONDS / (10 * AMOUNT)
        return address(-number % 10)

    print(f"ten clients                          {told(costs(window, one_of_ten, SAMPLE))}")
    flood = costs(window, address, addresses)
    flooded = megabytes() - empty - 8e-6 * addresses
    print(f"{addresses:,} addresses in one window {told(flood)}, the last {SAMPLE:,}: {told(flood[-SAMPLE:])}")
    del flood
    print(f"memory in the window                 {flooded:.0f} MB, {len(window):,} clients remembered")
    clock.now += SECONDS
    drain = costs(window, one_of_ten, MAX_CLIENTS // FORGOTTEN_AT_ONCE + 1)
    print(f"after the window, while it forgets   {told(drain)}")
    print(f"ten clients again                    {told(costs(window, one_of_ten, SAMPLE))}")
    print(f"memory after the window              {megabytes() - empty:.0f} MB, {len(window):,} clients remembered")


if __name__ == "__main__":
    main()
