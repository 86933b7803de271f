"""The time of a ratio study of 100,000 sales, without and with intervals."""

import sys
import time

import numpy as np

from train.study.ratio_study import ratio_study

SALES = 100_000
RESAMPLES = 1_000


def main() -> None:
    """Print the seconds of each."""
    rng = np.random.default_rng(0)
    price = np.exp(rng.normal(13, 0.5, SALES))
    predicted = price * np.exp(rng.normal(0, 0.2, SALES))
    for resamples in (0, RESAMPLES):
        begun = time.perf_counter()
        ratio_study(predicted, price, resamples)
        sys.stdout.write(f"{SALES:,} sales, {resamples:,} resamples: {time.perf_counter() - begun:.2f} s\n")


if __name__ == "__main__":
    main()
