"""What a version may take while it is loaded for the first time, in a process that can be spared."""

import io
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Never

import pytest
from rich.console import Console

from pricing.artifacts.deployment import promote
from pricing.artifacts.store import Artifact, Store
from pricing.errors import DamagedArtifactError
from pricing.inference.predictor import load
from pricing.inference.sandbox import LIMITS, MEBIBYTE, SandboxLimits, load_in_sandbox
from service.deployment.rollout import roll_out
from service.deployment.worker_slots import RunFolder
from tests.bad_artifacts import named, slow
from tests.waiting import wait_until
from train.promotion.publish import publish
from train.sales import rows as data

A_SECOND_OF_CPU: Final = LIMITS._replace(cpu_seconds=1)


@pytest.fixture(scope="module")
def too_slow(published: Artifact) -> Artifact:
    """v1.1.0, which takes more than a second of CPU."""
    return slow(named(published, "v1.1.0"))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert children() == []


def children() -> list[int]:
    """The processes that this one has started to load a version, and those that have ended and were not waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (path / "stat").read_text().rsplit(") ", 1)[1].split()[:2]
            is_ours = b"pricing.inference.sandbox" in (path / "cmdline").read_bytes() or state == "Z"
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        if int(parent) == os.getpid() and is_ours:
            found.append(int(path.name))
    return found


def limits_of_the_child() -> list[int]:
    """Core, file size, CPU and address space, once it has set the last of them: it has imported everything then."""
    wait_until(children)
    (child,) = children()
    wait_until(lambda: resource.prlimit(child, resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY)
    kinds = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU, resource.RLIMIT_AS)
    return [resource.prlimit(child, kind)[0] for kind in kinds]


@pytest.fixture
def _cores_are_written() -> Iterator[None]:
    """As by `ulimit -c unlimited`, where that may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def refusal(artifact: Artifact, limits: SandboxLimits = LIMITS) -> str:
    with pytest.raises(DamagedArtifactError) as refused:
        load_in_sandbox(artifact, limits)
    return str(refused.value)


def test_a_good_version_passes(published: Artifact) -> None:
    load_in_sandbox(published)


def test_a_bad_one_is_refused_in_the_words_of_who_loads_it(published: Artifact) -> None:
    wrong = published.manifest.examples[0].model_copy(update={"spread": 1.0})
    bad = published._replace(manifest=published.manifest.model_copy(update={"examples": (wrong,)}))
    with pytest.raises(DamagedArtifactError) as expected:
        load(bad)

    assert refusal(bad) == str(expected.value)


@pytest.mark.parametrize("mebibytes", [1, 240])
def test_one_that_needs_more_memory_is_ended(too_slow: Artifact, mebibytes: int) -> None:
    """With one, nothing can be read; with 240, the graph becomes too large while onnxruntime reads it."""
    told = refusal(too_slow, LIMITS._replace(memory_bytes=mebibytes * MEBIBYTE))

    assert told == f"v1.1.0 did not load within {mebibytes} MiB of memory"


def test_one_that_takes_longer_is_killed(published: Artifact) -> None:
    assert refusal(published, LIMITS._replace(seconds=0.01)) == "v1.0.0 did not load within 0.01 s"


def test_one_that_crashes_is_told_by_its_signal(too_slow: Artifact) -> None:
    with ThreadPoolExecutor() as pool:
        proved = pool.submit(refusal, too_slow)
        limits_of_the_child()  # from here on it leaves no core
        os.kill(children()[0], signal.SIGSEGV)

        assert proved.result() == "v1.1.0 ended the process that loaded it by SIGSEGV"


def test_who_is_interrupted_takes_the_child_along(too_slow: Artifact) -> None:
    def interrupt(*_: object) -> Never:
        raise KeyboardInterrupt

    def interrupt_once_it_loads() -> None:
        limits_of_the_child()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor() as pool:
            pool.submit(interrupt_once_it_loads)
            with pytest.raises(KeyboardInterrupt):
                load_in_sandbox(too_slow)
    finally:
        signal.signal(signal.SIGALRM, former)


@pytest.mark.usefixtures("_cores_are_written")
def test_one_that_needs_more_cpu_is_ended_by_the_kernel_in_a_session_of_its_own(too_slow: Artifact) -> None:
    with ThreadPoolExecutor() as pool:
        proved = pool.submit(refusal, too_slow, A_SECOND_OF_CPU)

        assert limits_of_the_child() == [0, 0, 1, LIMITS.memory_bytes]
        (child,) = children()
        assert os.getsid(child) == os.getpgid(child) == child
        assert proved.result() == "v1.1.0 did not load within 1 s of CPU"


def test_a_lower_limit_that_there_is_already_stays() -> None:
    """A shell's `ulimit -v`, say: raising it is an error."""
    program = (
        "import resource, pricing.inference.sandbox as p; kind = resource.RLIMIT_AS; half = p.LIMITS.memory_bytes // 2;"
        "resource.setrlimit(kind, (half, half)); p._limit(kind, 2 * half); assert resource.getrlimit(kind)[0] == half"
    )
    subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=True
    )


def test_what_lies_in_the_working_folder_is_not_run(
    published: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pricing").mkdir()
    (tmp_path / "pricing" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)

    load_in_sandbox(published)


class TestBeyondItsLimits:
    def test_it_is_not_published(self, too_slow: Artifact, tmp_path: Path) -> None:
        store, sales = Store(tmp_path / "artifacts"), data.synthetic(seed=0, rows=1_500)

        with pytest.raises(DamagedArtifactError, match=r"^v1\.1\.0 did not load within 1 s of CPU$"):
            publish(
                store,
                too_slow,
                sales,
                Console(file=io.StringIO()),
                load_in_sandbox=partial(load_in_sandbox, limits=A_SECOND_OF_CPU),
            )

        assert list(tmp_path.iterdir()) == []

    def test_it_is_not_promoted(self, store: Store, too_slow: Artifact, tmp_path: Path) -> None:
        store.publish(too_slow)  # by hand: nobody has proved it
        before = (store.root / "deployment.json").read_bytes()

        with pytest.raises(DamagedArtifactError, match=r"^v1\.1\.0 did not load within 1 s of CPU$"):
            roll_out(
                store,
                RunFolder(tmp_path / "run"),
                lambda current: promote(current, "v1.1.0"),
                load_in_sandbox=partial(load_in_sandbox, limits=A_SECOND_OF_CPU),
            )

        assert (store.root / "deployment.json").read_bytes() == before


@pytest.mark.parametrize("factor", [1e300, 1_000.0, 100.0])
def test_quantiles_that_no_answer_could_hold_are_refused(published: Artifact, factor: float) -> None:
    table = published.manifest.calibration
    absurd = table.model_copy(update={"quantiles": tuple(factor * value for value in table.quantiles)})
    bad = published._replace(manifest=published.manifest.model_copy(update={"calibration": absurd}))

    assert refusal(bad).startswith("v1.0.0: ")
    with pytest.raises(DamagedArtifactError):
        load(bad)
