"""Two processes that write at once: one wins, the other is told, nothing is mixed; a third never reads half."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from pricing.artifacts.store import Artifact, Store
from tests.gunicorn_process import ROOT

ROUNDS: Final = 100

# Waits for a line, does one thing, and says what came of it; so both begin within microseconds of each other.
WRITER: Final = """
import sys
from pathlib import Path
from pricing.artifacts.deployment import promote
from pricing.errors import AppraiserError
from pricing.artifacts.store import Store
{store}
store, version, mode = kind(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
artifact = store.read(version)
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    try:
        if mode == "deploy":
            generation = store.swap_pointer(lambda _: promote(_, version), after=int(line)).generation
            print("won", generation, flush=True)
        else:
            name = line.strip()
            manifest = artifact.manifest.model_copy(update={{"version": name, "seed": int(version.split(".")[1])}})
            store.publish(artifact._replace(manifest=manifest))
            print("won", name, flush=True)
    except AppraiserError as error:
        print("lost", type(error).__name__, flush=True)
    except Exception as error:
        print("broke", type(error).__name__, flush=True)
"""
ONE_AT_A_TIME: Final = "kind = Store"
ALL_AT_ONCE: Final = """
from contextlib import contextmanager
class kind(Store):
    @contextmanager
    def _writing(self):
        yield
"""
READER: Final = """
import sys, threading
from pathlib import Path
from pricing.artifacts.store import Store
store, stopping, seen = Store(Path(sys.argv[1])), threading.Event(), [0]
def read():
    while not stopping.is_set():
        generation = store.deployment().generation  # raises for what is torn
        assert generation >= seen[-1], (generation, seen[-1])
        seen.append(generation)
thread = threading.Thread(target=read)
thread.start()
print("ready", flush=True)
sys.stdin.read()
stopping.set()
thread.join()
seen.append(store.deployment().generation)
print(len(seen), seen[-1], flush=True)
"""


class Process:
    """A process that answers lines with lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout
        assert self.listen() == "ready"

    def tell(self, line: object) -> None:
        self._input.write(f"{line}\n")
        self._input.flush()

    def listen(self) -> str:
        return self._output.readline().strip()

    def end(self) -> str:
        self._input.close()
        return self.listen()


@contextmanager
def running(program: str, *arguments: object) -> Iterator[Process]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


@pytest.fixture
def two(store: Store, published: Artifact) -> Store:
    """v1.0.0 is deployed, v1.1.0 is published."""
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    return store


def race(store: Store, kind: str) -> list[tuple[str, str]]:
    """What both writers say in each round, after both have seen the same generation; it ends when that is in doubt."""
    program, said = (WRITER.format(store=kind), store.root), []
    with running(*program, "v1.0.0", "deploy") as one, running(*program, "v1.1.0", "deploy") as two:
        for _ in range(ROUNDS):
            generation = store.deployment().generation
            for writer in (one, two):
                writer.tell(generation)
            said.append((one.listen(), two.listen()))
    return said


def test_of_two_who_deploy_at_once_one_wins_and_generations_grow_by_one(two: Store) -> None:
    with running(READER, two.root) as reader:
        said = race(two, ONE_AT_A_TIME)
        reads, last = reader.end().split()

    for generation, words in enumerate(said, start=2):
        assert sorted(words) == ["lost DeploymentChangedError", f"won {generation}"]
    deployment = two.deployment()
    assert deployment.generation == int(last) == ROUNDS + 1
    assert deployment.champion == ("v1.0.0" if said[-1][0].startswith("won") else "v1.1.0")
    assert set(deployment.sha256) == set(deployment.named())
    assert int(reads) > ROUNDS  # so somebody was reading all the time


def test_without_the_lock_two_would_win(two: Store) -> None:
    """The control."""
    said = race(two, ALL_AT_ONCE)

    assert any(sorted(words) != ["lost DeploymentChangedError", f"won {g}"] for g, words in enumerate(said, start=2))


def test_of_two_who_publish_the_same_version_at_once_one_wins_whole(two: Store) -> None:
    program, wins = (WRITER.format(store=ONE_AT_A_TIME), two.root), [0, 0]
    with running(*program, "v1.0.0", "publish") as one, running(*program, "v1.1.0", "publish") as other:
        for number in range(ROUNDS):
            version = f"v2.{number}.0"
            for writer in (one, other):
                writer.tell(version)
            said = [one.listen(), other.listen()]
            assert sorted(said) == ["lost VersionExistsError", f"won {version}"]
            winner = said.index(f"won {version}")
            assert two.read(version).manifest.seed == winner  # each writes a seed of its own
            wins[winner] += 1

    assert sum(wins) == ROUNDS
    assert [path.name for path in two.root.glob(".aside-*")] == []
