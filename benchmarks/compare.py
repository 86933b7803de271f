"""Appraiser beside what anyone would pick instead: `python -m benchmarks.compare [--rounds N] [--seconds S]`.

Same machine, same model, same load: wrk on loopback, two workers each. All candidates are up, and take turns round by
round, since machines are shared and noisy; a ratio is that of two neighbors in one round. Every request has another
house, and the cache is off. Writes benchmarks/RESULTS.md and its chart; `make bench` installs what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.chart import bars
from benchmarks.start import children, free_port, proportional_megabytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
RESULTS: Final = HERE / "RESULTS.md"
OURS, CACHED, BEST = "Appraiser", "Appraiser, cache on", "FastAPI + onnxruntime"
BOOSTING, FOREST = "FastAPI + joblib, gradient boosting", "FastAPI + joblib, random forest"
VIEW, FUNCTION = "an empty Flask view, same worker", "an empty WSGI function, same worker"
GTHREAD, UVICORN = "Appraiser in gthread", "Appraiser in uvicorn-worker"
CONNECTIONS: Final = (1, 4, 16, 64, 256, 512)
BATCHES: Final = (1, 10, 100, 1_000, 10_000)


class Round(NamedTuple):
    """What wrk saw: a second's requests, milliseconds, and what was no 200."""

    rate: float
    p50: float
    p99: float
    failed: int


class Candidate(NamedTuple):
    """How it is started; it listens on PORT."""

    command: list[str]
    environment: dict[str, str]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk makes the load, and is not installed; on Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), options.rounds, options.seconds)
    RESULTS.write_text(report, encoding="utf-8")
    print(report)


def measure(folder: Path, rounds: int, seconds: int) -> str:
    """Return the report."""
    artifacts = folder / "artifacts"
    run([sys.executable, "-c", "import cli; cli.main()", "train"], {"APPRAISER_ARTIFACTS": str(artifacts)})
    run([sys.executable, "-m", "benchmarks.candidates.fit_originals", str(folder)], {})
    known = candidates(folder)

    def turns(names: Iterable[str], connections: int, batch: int = 1) -> dict[str, list[Round]]:
        print(f"{', '.join(names)}: {connections} connections, {batch} houses a request", file=sys.stderr)
        return alternate({name: known[name] for name in names}, folder, rounds, seconds, connections, batch)

    single = turns([OURS, BEST, BOOSTING, FOREST, CACHED, VIEW, FUNCTION], 16)
    (HERE / "results.svg").write_text(
        bars("One house a request, 16 connections: requests a second", {n: median_rate(f) for n, f in single.items()}),
        encoding="utf-8",
    )
    many = turns([OURS, BEST], 4, 1_000)
    workers = turns([OURS, UVICORN, GTHREAD], 16)
    wide = ours(MAX_BATCH_ROWS=str(max(BATCHES)), MAX_BODY_BYTES=str(1 << 24))
    few = rounds // 2 + 1  # for what is compared with itself
    sizes = {size: one(wide, folder, few, seconds, 4, size) for size in BATCHES}
    curve = {
        count: {number: one(ours(count), folder, few, seconds, number) for number in CONNECTIONS} for count in (1, 2)
    }
    memory = {name: megabytes(known[name], folder) for name in (OURS, BEST, UVICORN, GTHREAD)}
    return "\n".join(
        [
            "# What it does, beside what anyone would pick instead",
            "",
            f"Written by `python -m benchmarks.compare` on {datetime.now(UTC):%Y-%m-%d}: {machine()}.",
            f"Medians of {rounds} rounds of {seconds} s, in which the candidates take turns; a ratio is Appraiser's",
            "to the other's in the same round, with the least and the greatest. Journal, metrics, log and validation",
            "are on; houses differ from request to request.",
            "",
            "## One house a request, 16 connections",
            "",
            "![requests a second](results.svg)",
            "",
            *table(single),
            "",
            "## 1,000 houses a request, 4 connections",
            "",
            *table(many),
            "",
            "## The same application in other workers, one house a request, 16 connections",
            "",
            *table(workers),
            "",
            "## Houses a request, 4 connections",
            "",
            "| houses | houses/s | p50 | p99 | failed |",
            "|---:|---:|---:|---:|---:|",
            *(
                f"| {size:,} | {size * middle(found).rate:,.0f} | {told(middle(found))} |"
                for size, found in sizes.items()
            ),
            "",
            "## Connections, one house a request",
            "",
            "| connections | 1 worker: requests/s | p50 | p99 | failed | 2 workers: requests/s | p50 | p99 | failed |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            *(
                f"| {number} | "
                + " | ".join(f"{middle(by[number]).rate:,.0f} | {told(middle(by[number]))}" for by in curve.values())
                + " |"
                for number in CONNECTIONS
            ),
            "",
            "## Memory of two workers and their parent after that load, proportional (PSS)",
            "",
            "| | MB |",
            "|---|---:|",
            *(f"| {name} | {size:.0f} |" for name, size in memory.items()),
            "",
        ]
    )


def ours(workers: int = 2, *arguments: str, **environment: str) -> Candidate:
    """Appraiser, or another application in its worker."""
    command = [sys.executable, "-m", "gunicorn", "--log-level", "warning", *arguments]
    off = {"APPRAISER_CACHE_SIZE": "0", "WEB_CONCURRENCY": str(workers)}
    return Candidate(command, off | {f"APPRAISER_{name}": value for name, value in environment.items()})


def uvicorn(application: str, **environment: str) -> Candidate:
    """Another application, in uvicorn with uvloop and httptools."""
    fast = ["--workers", "2", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return Candidate([sys.executable, "-m", "uvicorn", f"benchmarks.candidates.{application}", *fast], environment)


def candidates(folder: Path) -> dict[str, Candidate]:
    """All of them, by name."""
    joblib = "fastapi_joblib:app"
    return {
        OURS: ours(),
        CACHED: ours(CACHE_SIZE="100000"),
        VIEW: ours(2, "benchmarks.candidates.limits:empty_view"),
        FUNCTION: ours(2, "benchmarks.candidates.limits:empty_function"),
        GTHREAD: ours(WORKER="gthread"),
        UVICORN: ours(2, "--worker-class", "uvicorn_worker.UvicornWorker", "benchmarks.candidates.inline_asgi:app"),
        BEST: uvicorn("fastapi_onnx:app"),
        BOOSTING: uvicorn(joblib, ORIGINAL_MODEL=str(folder / "gradient-boosting.joblib")),
        FOREST: uvicorn(joblib, ORIGINAL_MODEL=str(folder / "random-forest.joblib")),
    }


@contextmanager
def up(candidate: Candidate, folder: Path, root: Path = ROOT) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start it in `root`, with folders of its own, and stop it at the end. Its port is open when it is ready."""
    own = Path(tempfile.mkdtemp(dir=folder))
    port = free_port()
    folders = {
        "APPRAISER_ARTIFACTS": folder / "artifacts",
        "APPRAISER_RUN": own / "run",
        "APPRAISER_JOURNAL": own / "j",
    }
    environment = os.environ | {name: str(path) for name, path in folders.items()} | candidate.environment
    command = [*candidate.command, *(["--port", str(port)] if "uvicorn" in candidate.command else [])]
    with (
        (own / "out").open("wb") as out,
        subprocess.Popen(
            command, cwd=root, env=environment | {"PORT": str(port)}, stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            wait_until_open(port, own / "out")
            yield process, port
        finally:
            process.terminate()
            process.wait(30)
            shutil.rmtree(own / "j", ignore_errors=True)


def wait_until_open(port: int, out: Path) -> None:
    """Until it answers a prediction; before that, wrk would count refusals."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if wrk(port, 1, 1, 1).rate > 0:
                return
        except ConnectionError:
            time.sleep(0.05)  # nobody listens yet, and a port has no event to wait for
    sys.exit(f"it does not answer: {out.read_text(errors='replace')[-2_000:]}")


def alternate(  # noqa: PLR0913, PLR0917 -- a load is all of these
    found: Mapping[str, Candidate], folder: Path, rounds: int, seconds: int, connections: int, batch: int = 1
) -> dict[str, list[Round]]:
    """Let candidates take turns under the same load; the first round of each is for warming up."""
    with ExitStack() as stack:
        ports = {name: stack.enter_context(up(candidate, folder))[1] for name, candidate in found.items()}
        seen: dict[str, list[Round]] = {name: [] for name in ports}
        for _ in range(rounds + 1):
            for name, port in ports.items():
                seen[name].append(wrk(port, connections, seconds, batch))
        return {name: measured[1:] for name, measured in seen.items()}


def one(candidate: Candidate, folder: Path, rounds: int, seconds: int, connections: int, batch: int = 1) -> list[Round]:  # noqa: PLR0913, PLR0917
    """The rounds of one candidate alone."""
    return alternate({"": candidate}, folder, rounds, seconds, connections, batch)[""]


def megabytes(candidate: Candidate, folder: Path) -> float:
    """Of all its processes, after 10 s of load."""
    with up(candidate, folder) as (process, port):
        wrk(port, 16, 10, 1)
        return sum(proportional_megabytes(pid) for pid in (process.pid, *children(process.pid)))


def wrk(port: int, connections: int, seconds: int, batch: int) -> Round:
    """Load it. Raises ConnectionError when nobody listens."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency"]
    done = subprocess.run(
        [*command, "-s", str(HERE / "houses.lua"), f"http://127.0.0.1:{port}"],
        env=os.environ | {"BATCH": str(batch)},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise ConnectionError(done.stdout + done.stderr)
    seen = json.loads(line.removeprefix("RESULT "))
    return Round(seen["requests"] / seen["seconds"], seen["p50"], seen["p99"], seen["bad_status"] + seen["broken"])


def run(command: list[str], environment: dict[str, str], root: Path = ROOT) -> None:
    """Run a command to its end. Raises CalledProcessError."""
    subprocess.run(command, cwd=root, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)


def middle(rounds: list[Round]) -> Round:
    """The median of each; failures are added up."""
    rate, p50, p99 = (statistics.median(column) for column in list(zip(*rounds, strict=True))[:3])
    return Round(rate, p50, p99, sum(found.failed for found in rounds))


def median_rate(rounds: list[Round]) -> float:
    """Requests a second."""
    return middle(rounds).rate


def table(found: Mapping[str, list[Round]]) -> list[str]:
    """Markdown; the first candidate is what the others are compared with."""
    first = next(iter(found.values()))
    lines = ["| | requests/s | p50 | p99 | failed | times |", "|---|---:|---:|---:|---:|---:|"]
    for name, rounds in found.items():
        ratios = sorted(ours.rate / theirs.rate for ours, theirs in zip(first, rounds, strict=True))
        times = "" if rounds is first else f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append(f"| {name} | {middle(rounds).rate:,.0f} | {told(middle(rounds))} | {times} |")
    return lines


def told(found: Round) -> str:
    """The last cells of a row."""
    return f"{found.p50:.2f} ms | {found.p99:.2f} ms | {found.failed}"


def machine() -> str:
    """Processor, cores and versions."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(": ")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
    libraries = ("flask", "gunicorn", "uvloop", "onnxruntime", "pydantic", "fastapi", "uvicorn", "scikit-learn")
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return (
        f"{len(names)} cores of {names[0]}, Linux {platform.release()}, Python {platform.python_version()}, {versions}"
    )


if __name__ == "__main__":
    main()
