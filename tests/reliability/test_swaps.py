"""What 200 swaps leave behind: nothing."""

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from service.deployment.worker_slots import RunFolder
from tests.reliability.workers import (
    children,
    descriptors_and_threads,
    is_at_full_strength,
    kilobytes,
    loaded,
    serve,
    store_of,
    train_version,
)
from tests.waiting import wait_until

SWAPS: Final = 200
FIRST: Final = 20
MAX_GROWTH: Final = 0.05


def test_memory_descriptors_and_threads_stay_over_200_swaps(tmp_path: Path) -> None:
    """Of three versions in turn each is loaded anew: the deployment holds the champion and the one before."""
    versions = [
        train_version("v1.0.0", "random-forest", rows=12_000),
        train_version("v1.1.0", "random-forest", seed=1, rows=12_000),
        train_version("v1.2.0", "gradient-boosting", seed=2),
    ]
    store, seen = store_of(tmp_path, *versions), []
    with serve(store) as server, loaded(server).running() as load:
        run = RunFolder(server.run)
        for number in range(1, SWAPS + 1):
            generation = store.deploy(versions[number % 3].manifest.version).generation
            wait_until(partial(is_at_full_strength, run, generation))
            if number >= FIRST and number % 3 == FIRST % 3:  # the same two versions are held each time
                pids = children(server.pid)
                seen.append([(*kilobytes(pid), *descriptors_and_threads(pid)) for pid in pids])

    figures = np.array(seen)  # of shape (looks, workers, 4)
    resident, own = (figures[:, :, column].sum(axis=1) / 1024 for column in (0, 1))  # MB of both workers
    descriptors, threads = (np.unique(figures[:, :, column]).tolist() for column in (2, 3))
    print(
        f"\n{len(load.outcomes):,} requests, {len(load.failed())} failed; "
        f"both workers after {FIRST} and {SWAPS} swaps: "
        f"resident {resident[0]:.1f} and {resident[-1]:.1f} MB ({resident[-1] / resident[0] - 1:+.1%}), "
        f"their own {own[0]:.1f} and {own[-1]:.1f} MB ({own[-1] / own[0] - 1:+.1%}); "
        f"threads {threads}, descriptors beside connections {descriptors}"
    )
    assert load.failed() == []
    assert resident[-1] <= resident[0] * (1 + MAX_GROWTH)
    assert len(threads) == len(descriptors) == 1
