"""Workers are killed while clients ask: what was in their hands is lost, and nothing else."""

import time
from pathlib import Path
from typing import Final

import httpx

from service.deployment.worker_slots import RunFolder
from tests.gunicorn_process import GunicornProcess
from tests.reliability.load import RATE, Outcome
from tests.reliability.workers import (
    BODIES,
    WORKERS,
    children,
    crossed,
    is_at_full_strength,
    kill,
    loaded,
    prices,
    serve,
    store_of,
    train_version,
)
from tests.waiting import sleep_until, wait_until

SECONDS: Final = 60.0
EVERY_SECONDS: Final = 5.0
FULL_STRENGTH_SECONDS: Final = 2.0
AT_ONCE: Final = 1.0  # seconds within which a client notices


def seconds_to_full_strength(server: GunicornProcess, generation: int, without: int = 0) -> float:
    """Until two workers serve a generation, none of which is `without`."""
    begun, run = time.monotonic(), RunFolder(server.run)
    wait_until(lambda: without not in children(server.pid) and is_at_full_strength(run, generation))
    return time.monotonic() - begun


def not_in_hand(failed: list[Outcome], kills: list[tuple[float, set[int]]]) -> list[Outcome]:
    """Failures on connections that were in the hands of no worker when it was killed, or not at that moment."""
    return [
        outcome
        for outcome in failed
        if not any(outcome.port in held and abs(outcome.finished - at) < AT_ONCE for at, held in kills)
    ]


def test_a_worker_killed_every_5_seconds_takes_only_what_it_had_in_hand(tmp_path: Path) -> None:
    version = train_version("v1.0.0", "random-forest")
    store, kills, took = store_of(tmp_path, version), [], []
    with serve(store) as server:
        assert seconds_to_full_strength(server, 1) < 30
        with loaded(server).running() as load:
            begun = time.monotonic()
            for number in range(int(SECONDS / EVERY_SECONDS)):
                sleep_until(begun + (number + 0.5) * EVERY_SECONDS)
                worker = children(server.pid)[number % WORKERS]
                held = kill(worker, server.port)
                kills.append((time.monotonic(), held))
                took.append(seconds_to_full_strength(server, 1, without=worker))
            sleep_until(begun + SECONDS)

    failed, in_hand = load.failed(), [len(held) for _, held in kills]
    print(
        f"\n{len(kills)} kills, {len(load.outcomes):,} requests, {len(failed)} failed "
        f"({', '.join(sorted({outcome.error for outcome in failed}))}); connections in hand {in_hand}; "
        f"full strength after {min(took):.2f} to {max(took):.2f} s"
    )
    assert len(load.outcomes) >= RATE * SECONDS
    assert not_in_hand(failed, kills) == []
    assert crossed(load.outcomes, prices(version)) == []
    assert max(took) <= FULL_STRENGTH_SECONDS
    assert any(held for _, held in kills)  # else the kills hit nobody, and this shows nothing


def test_a_worker_killed_while_the_champion_is_damaged_comes_back_on_the_last_good_version(tmp_path: Path) -> None:
    versions = train_version("v1.0.0", "gradient-boosting"), train_version("v1.1.0", "gradient-boosting", seed=1)
    store = store_of(tmp_path, *versions)
    store.deploy("v1.1.0")
    with serve(store) as server:
        assert seconds_to_full_strength(server, 2) < 30
        run = RunFolder(server.run)
        with loaded(server).running() as load:
            (store.root / "v1.1.0" / "model.onnx").write_bytes(b"damaged")
            held = kill(children(server.pid)[0], server.port)
            at = time.monotonic()
            wait_until(lambda: sorted(worker.generation for worker in run.workers()) == [0, 2])
            back = len(load.outcomes)
            wait_until(lambda: len(load.outcomes) > back + 2 * RATE)

    answered = {outcome.answer["model_version"] for outcome in load.outcomes[back:] if outcome.is_answered}
    print(f"\n{len(load.outcomes):,} requests, {len(load.failed())} failed; answered afterwards by {sorted(answered)}")
    assert not_in_hand(load.failed(), [(at, held)]) == []
    assert answered == {"v1.0.0", "v1.1.0"}  # the other worker holds the champion in memory
    assert crossed(load.outcomes, prices(*versions)) == []


def test_what_is_in_the_hands_of_workers_is_found_and_a_service_without_any_comes_back(tmp_path: Path) -> None:
    """The control: a look into the hands of the workers finds their clients."""
    store = store_of(tmp_path, train_version("v1.0.0", "gradient-boosting"))
    with serve(store) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        assert client.post("/predict", content=BODIES[0]).status_code == 200
        held = set[int]()
        for worker in children(server.pid):
            held |= kill(worker, server.port)
        assert len(held) == 1
        wait_until(lambda: is_at_full_strength(RunFolder(server.run), 1))
        assert client.post("/predict", content=BODIES[0]).status_code == 200
