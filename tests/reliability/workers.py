"""A service of several versions for the tests that disturb it, and what its workers hold while they do."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import orjson

from pricing.artifacts.store import REPORT_FILE, Artifact, Store
from pricing.inference.predictor import load
from report.page import report_of
from service.contract import DEFAULT_LEVEL
from service.deployment.worker_slots import RunFolder
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.reliability.load import RATE, Load, Outcome
from tests.waiting import wait_until
from train.models.family_names import FamilyName
from train.models.training import Plan, train
from train.sales import rows as data

WORKERS: Final = 2
HOUSES: Final = 200
HOUSE: Final = {"square_feet": 2000.0, "bedrooms": 3, "bathrooms": 2.0, "age_years": 10, "distance_to_city": 5.0}
BODIES: Final = [orjson.dumps(HOUSE | {"square_feet": 1000.0 + 10 * number}) for number in range(HOUSES)]

BATCH: Final = 20
BATCHES: Final = [
    b'{"houses":[' + b",".join(BODIES[first : first + BATCH]) + b"]}" for first in range(0, HOUSES, BATCH)
]
NOTHING_MORE: Final[Mapping[str, str]] = MappingProxyType({})

Prices = dict[tuple[str, int], tuple[float, float, float]]


def train_version(
    version: str, family: FamilyName, seed: int = 0, rows: int = 1_500, *, keep_sales: bool = False
) -> Artifact:
    """Another market for each seed, so that no two versions give the same price."""
    plan = Plan(version, "0", seed, family, keep_sales=keep_sales)
    return train(data.synthetic(seed=seed, rows=rows), plan, lambda _: None)


def store_of(folder: Path, *artifacts: Artifact) -> Store:
    """All are published with their reports, the first is deployed."""
    store = Store(folder / "artifacts")
    for artifact in artifacts:
        store.publish(artifact, {REPORT_FILE: report_of(artifact.manifest)})
    store.deploy(artifacts[0].manifest.version)
    return store


def serve(
    store: Store, *args: str, cwd: Path = ROOT, env: Mapping[str, str] = NOTHING_MORE, port: int = 0
) -> AbstractContextManager[GunicornProcess]:
    """Two workers that serve what is deployed."""
    env = {"APPRAISER_ARTIFACTS": str(store.root), **env}
    return gunicorn(None, *args, cwd=cwd, workers=WORKERS, env=env, port=port)


def prices(*artifacts: Artifact) -> Prices:
    """What each version says of each house: price and bounds, as they are answered."""
    houses = np.array([[1000.0 + 10 * number, 3, 2, 10, 5] for number in range(HOUSES)], dtype=np.float32)
    found: Prices = {}
    for artifact in artifacts:
        price, lower, upper = load(artifact).predict(houses, DEFAULT_LEVEL)[:3]
        for house, row in enumerate(zip(price, lower, upper, strict=True)):
            found[artifact.manifest.version, house] = (round(row[0], 2), round(row[1], 2), round(row[2], 2))
    return found


def crossed(outcomes: list[Outcome], expected: Prices) -> list[Outcome]:
    """Answers whose price or bounds are not those of the version that they name."""
    return [outcome for outcome in outcomes if outcome.is_answered and told(outcome) != expected[key(outcome)]]


def key(outcome: Outcome) -> tuple[str, int]:
    """Version and house."""
    return outcome.answer["model_version"], outcome.house


def told(outcome: Outcome) -> tuple[float, float, float]:
    """Price and bounds."""
    interval = outcome.answer["confidence_interval"]
    return outcome.answer["predicted_price"], interval["lower"], interval["upper"]


def loaded(server: GunicornProcess, travel_seconds: float = 0.0) -> Load:
    """A client of the service at its usual rate."""
    return Load(server.port, BODIES, travel_seconds=travel_seconds)


def loaded_with_batches(server: GunicornProcess, rate: float = RATE) -> Load:
    """A client that asks for BATCH houses at once, so that many predictions are made in little time."""
    return Load(server.port, BATCHES, rate, "/predict/batch")


def appraiser(store: Store, run: Path, *command: str) -> str:
    """A command as a person types it; returns what it prints. Raises CalledProcessError."""
    places = ["--artifacts", str(store.root), "--run", str(run)]
    line = [sys.executable, "-c", "from cli import main; main()", *places, *command]
    return subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def seconds_to_converge(store: Store, run: Path) -> float:
    """From the moment of the last deployment to that at which the last worker said that it serves it."""
    pointed = (store.root / "deployment.json").stat().st_mtime
    return max(path.stat().st_mtime for path in run.glob("slot-*.json")) - pointed


def is_at_full_strength(run: RunFolder, generation: int, workers: int = WORKERS) -> bool:
    """Whether so many workers live and serve a generation."""
    return [worker.generation for worker in run.workers()] == [generation] * workers


def children(pid: int) -> list[int]:
    """Processes that a process has started and that live."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def kill(pid: int, port: int) -> set[int]:
    """Kill a worker; returns the ports of the clients whose connections were in its hands.

    It is stopped first, so that nothing comes to its hands between the look and the kill.
    """
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: is_stopped(pid))
    held = client_ports(pid, port)
    os.kill(pid, signal.SIGKILL)
    return held


def is_stopped(pid: int) -> bool:
    """Whether a process has come to the stop that it was sent: until then, for up to 100 ms, it accepts clients."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"


def client_ports(pid: int, port: int) -> set[int]:
    """Ports of the clients of a process that listens on a port of this host."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    sockets = [line.split() for line in lines]
    remotes = {_port(found[2]) for found in sockets if _port(found[1]) == port and found[9] in inodes}
    return remotes - {0}  # the listening socket's


def _port(address: str) -> int:
    return int.from_bytes(struct.pack(">H", int(address.partition(":")[2], 16)))


def kilobytes(pid: int) -> tuple[int, int]:
    """Memory of a process: all that is resident, and what of it is its own, without libraries."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return sizes["Rss"], sizes["Pss_Anon"]


def descriptors_and_threads(pid: int) -> tuple[int, int]:
    """How many of each a process has; of descriptors, those that are no connection."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    return sum(not link.startswith("socket:") for link in links), len(threads)
