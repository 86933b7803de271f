"""Models change while clients ask: nobody is refused, and every price is that of the version it names."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from service.deployment.worker_slots import RunFolder
from tests.reliability.load import RATE
from tests.reliability.workers import (
    appraiser,
    children,
    crossed,
    is_at_full_strength,
    loaded,
    prices,
    seconds_to_converge,
    serve,
    store_of,
    train_version,
)
from tests.waiting import sleep_until, wait_until

PROMOTIONS: Final = 20
SECONDS: Final = 60.0
CONVERGENCE_SECONDS: Final = 1.5


def test_20_promotions_in_a_minute_cost_no_request_and_cross_no_answer(tmp_path: Path) -> None:
    versions = [
        train_version("v1.0.0", "gradient-boosting"),
        train_version("v1.1.0", "random-forest", seed=1),
        train_version("v1.2.0", "gradient-boosting", seed=2),
    ]
    store, converged = store_of(tmp_path, *versions), []
    with serve(store) as server:
        wait_until(lambda: is_at_full_strength(RunFolder(server.run), 1))
        with loaded(server).running() as load:
            begun = time.monotonic()
            for number in range(1, PROMOTIONS + 1):
                sleep_until(begun + number * SECONDS / PROMOTIONS - 1)
                version = versions[number % len(versions)].manifest.version
                said = appraiser(store, server.run, "promote", version)
                assert said == f"{version} is deployed as generation {number + 1}; 2 workers serve it\n"
                converged.append(seconds_to_converge(store, server.run))
            sleep_until(begun + SECONDS)

    expected = prices(*versions)
    answered = {version: 0 for version, _ in expected}
    for outcome in load.outcomes:
        answered[outcome.answer["model_version"]] += 1
    slowest = sorted(outcome.seconds for outcome in load.outcomes)[-len(load.outcomes) // 100]
    print(
        f"\n{len(load.outcomes):,} requests, {len(load.failed())} failed, {load.dropped} idle connections closed; "
        f"answers by version {answered}; "
        f"convergence {min(converged):.2f} to {max(converged):.2f} s; p99 {slowest * 1e3:.1f} ms"
    )
    assert load.failed() == []
    assert load.dropped == 0
    assert len(load.outcomes) >= RATE * SECONDS
    assert crossed(load.outcomes, expected) == []
    assert all(answered.values())
    assert max(converged) <= CONVERGENCE_SECONDS
    # the controls: a crossed answer would be seen, and so would one that is off by a cent
    first = load.outcomes[0]
    other = next(version for version in answered if version != first.answer["model_version"])
    assert crossed([replace(first, answer=first.answer | {"model_version": other})], expected)
    cent = first.answer["predicted_price"] + 0.01
    assert crossed([replace(first, answer=first.answer | {"predicted_price": cent})], expected)


def test_the_control_workers_that_are_replaced_cost_the_connections_that_they_held(tmp_path: Path) -> None:
    """The other way to change a model: what promotions do not cost is seen where it is lost."""
    store = store_of(tmp_path, train_version("v1.0.0", "gradient-boosting"))
    with serve(store) as server:
        wait_until(lambda: is_at_full_strength(RunFolder(server.run), 1))
        with loaded(server).running() as load:
            wait_until(lambda: len(load.outcomes) > RATE)
            before, former = load.dropped, set(children(server.pid))
            for worker in former:
                os.kill(worker, signal.SIGKILL)
            wait_until(lambda: not former & set(children(server.pid)) and is_at_full_strength(RunFolder(server.run), 1))
            answered = len(load.outcomes)
            wait_until(lambda: len(load.outcomes) > answered + RATE)

    print(f"\n{len(load.outcomes):,} requests, {len(load.failed())} failed, {load.dropped} idle connections closed")
    assert before == 0
    assert load.dropped + len(load.failed()) > 0
