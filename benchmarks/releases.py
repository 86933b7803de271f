"""Two releases side by side, this checkout and OTHER: `python -m benchmarks.releases OTHER [--rounds N] [--seconds S]`.

OTHER is a folder, made for example by `git worktree add ../other TAG`. Both serve the same version, which the other
release has trained, with two workers each, the cache off, under the same load by wrk. They take turns, and who begins
changes from round to round; a ratio is that of two neighbors in one round. Prints medians and quartiles.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.compare import ROOT, Round, ours, run, up, wrk

LOADS: Final = ((1, 16), (1_000, 4))  # houses a request, connections


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    other = options.other.resolve()
    if not (other / "gunicorn.conf.py").is_file():
        sys.exit(f"{other} holds no gunicorn.conf.py; expected a checkout of this repository")
    with tempfile.TemporaryDirectory() as folder:
        artifacts = {"APPRAISER_ARTIFACTS": str(Path(folder) / "artifacts")}
        run([sys.executable, "-c", "import cli; cli.main()", "train"], artifacts, other)
        for houses, connections in LOADS:
            here, there = alternate(other, Path(folder), options.rounds, options.seconds, houses, connections)
            print(f"{houses:,} houses a request, {connections} connections: {told(here, there)}")


def alternate(  # noqa: PLR0913, PLR0917 -- a load is all of these
    other: Path, folder: Path, rounds: int, seconds: int, houses: int, connections: int
) -> tuple[list[Round], list[Round]]:
    """The rounds of this checkout and of the other one; the first of each, to warm up, is left out."""
    with ExitStack() as stack:
        ports = [stack.enter_context(up(ours(), folder, root))[1] for root in (ROOT, other)]
        seen: tuple[list[Round], list[Round]] = ([], [])
        for number in range(rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                seen[which].append(wrk(ports[which], connections, seconds, houses))
    return seen[0][1:], seen[1][1:]


def told(here: list[Round], there: list[Round]) -> str:
    """Rates, their ratio with its quartiles, p99 and failures."""
    ratios = [own.rate / its.rate for own, its in zip(here, there, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    rates, p99s = (
        tuple(statistics.median(getattr(found, name) for found in rounds) for rounds in (here, there))
        for name in ("rate", "p99")
    )
    failed = sum(found.failed for found in (*here, *there))
    return (
        f"{rates[0]:,.0f} against {rates[1]:,.0f} requests/s, ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}), "
        f"p99 {p99s[0]:.2f} against {p99s[1]:.2f} ms, {failed} failed"
    )


if __name__ == "__main__":
    main()
