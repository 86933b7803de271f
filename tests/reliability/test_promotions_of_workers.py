"""Short versions of what tests/reliability shows at length: promotions, kills and swaps cost nobody an answer."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pricing.artifacts.deployment import Deployment, promote
from pricing.artifacts.store import Artifact, Store
from service.deployment.rollout import RolloutError, roll_out
from service.deployment.worker_slots import RunFolder
from tests.gunicorn_process import GunicornProcess
from tests.reliability.workers import (
    HOUSES,
    appraiser,
    children,
    crossed,
    descriptors_and_threads,
    is_at_full_strength,
    kill,
    loaded,
    prices,
    serve,
    store_of,
    train_version,
)
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def other() -> Artifact:
    """v1.1.0, of another market."""
    return train_version("v1.1.0", "gradient-boosting", seed=1)


@pytest.fixture
def store(published: Artifact, other: Artifact, tmp_path: Path) -> Store:
    return store_of(tmp_path, published, other)


@pytest.fixture
def server(store: Store) -> Iterator[GunicornProcess]:
    with serve(store) as process:
        wait_until(lambda: is_at_full_strength(RunFolder(process.run), 1))
        yield process


def test_promotions_rollbacks_and_splits_cost_no_request_and_cross_no_answer(
    store: Store, server: GunicornProcess, published: Artifact, other: Artifact
) -> None:
    with loaded(server).running() as load:
        said = [
            appraiser(store, server.run, *command)
            for command in (["promote", "v1.1.0"], ["rollback"], ["split", "v1.0.0=50", "v1.1.0=50"])
        ]
        answered = len(load.outcomes)
        wait_until(lambda: len(load.outcomes) > answered + 2 * HOUSES)  # each is asked twice

    assert said == [
        "v1.1.0 is deployed as generation 2; 2 workers serve it\n",
        "v1.0.0 is deployed as generation 3; 2 workers serve it\n",
        "v1.0.0=50 v1.1.0=50 is deployed as generation 4; 2 workers serve it\n",
    ]
    assert (load.failed(), load.dropped) == ([], 0)
    assert crossed(load.outcomes, prices(published, other)) == []
    split = {outcome.answer["model_version"] for outcome in load.outcomes[answered:]}
    assert split == {"v1.0.0", "v1.1.0"}
    # on the same arm each time, whichever worker it was: half of the houses here and half there
    arms = {(outcome.house, outcome.answer["model_version"]) for outcome in load.outcomes[answered + 10 :]}
    assert len({house for house, _ in arms}) == len(arms)


def test_a_killed_worker_takes_what_it_had_in_hand_and_is_replaced(
    server: GunicornProcess, published: Artifact
) -> None:
    run = RunFolder(server.run)
    with loaded(server).running() as load:
        wait_until(lambda: len(load.outcomes) > 50)
        worker = children(server.pid)[0]
        held = kill(worker, server.port)
        wait_until(lambda: worker not in children(server.pid) and is_at_full_strength(run, 1))
        answered = len(load.outcomes)
        wait_until(lambda: len(load.outcomes) > answered + 50)

    assert {outcome.port for outcome in load.failed()} <= held
    assert all(outcome.is_answered for outcome in load.outcomes[answered:])
    assert crossed(load.outcomes, prices(published)) == []


def test_a_swap_leaves_no_descriptor_and_no_thread_behind(
    store: Store, server: GunicornProcess, published: Artifact
) -> None:
    """Of three versions in turn each is loaded anew: the deployment holds the champion and the one before."""
    run, seen = RunFolder(server.run), set()
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.2.0"})))
    for number in range(4):
        store.deploy(f"v1.{(number + 1) % 3}.0")
        wait_until(partial(is_at_full_strength, run, number + 2))
        seen |= {descriptors_and_threads(pid) for pid in children(server.pid)}

    assert len(seen) == 1


def test_a_promotion_that_a_worker_refuses_is_taken_back_and_says_why(
    store: Store, server: GunicornProcess, other: Artifact
) -> None:
    """The command's host finds the files in order; they are damaged before the workers look."""

    class DamagedOnTheWay(Store):
        def _replace_pointer(self, deployment: Deployment) -> None:
            (self.root / "v1.1.0" / "model.onnx").write_bytes(other.graph[:-1])
            super()._replace_pointer(deployment)

    with pytest.raises(RolloutError) as failed:
        roll_out(DamagedOnTheWay(store.root), RunFolder(server.run), lambda current: promote(current, "v1.1.0"))

    assert str(failed.value).startswith("a worker refused v1.1.0: observed sha256 ")
    assert str(failed.value).endswith("; v1.0.0 is deployed again, as generation 3")
    wait_until(lambda: is_at_full_strength(RunFolder(server.run), 3))
