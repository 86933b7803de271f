"""Before a version may be published or deployed it is loaded in a child process, which ends at its limits.

Both halves are here: `load_in_sandbox` hands the bytes over, and the child reads them from its standard input. They
are of one release, so what they exchange needs no number of a format.
"""

import os
import resource
import signal
import subprocess
import sys
from typing import Final, NamedTuple

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact
from pricing.errors import AppraiserError, DamagedArtifactError

MEBIBYTE: Final = 1024 * 1024
OUT_OF_MEMORY: Final = 3  # exit code; Python's own are 0, 1 and 2


class SandboxLimits(NamedTuple):
    """The limits of loading one version."""

    cpu_seconds: int
    memory_bytes: int
    """Of address space: what is only reserved counts too."""
    seconds: float


# The largest graph that the store takes needs 1.1 GiB and 2 s of CPU; the rest is for slower and busier machines.
LIMITS: Final = SandboxLimits(cpu_seconds=20, memory_bytes=2048 * MEBIBYTE, seconds=60.0)


def load_in_sandbox(artifact: Artifact, limits: SandboxLimits = LIMITS) -> None:
    """Load a version as a worker will, in a child process. Raises DamagedArtifactError with the reason why not."""
    manifest = artifact.manifest.to_bytes()
    numbers = (len(manifest), len(artifact.graph), limits.cpu_seconds, limits.memory_bytes)
    with subprocess.Popen(  # noqa: S603 -- this very program
        [sys.executable, "-P", "-m", "pricing.inference.sandbox", *map(str, numbers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # The modules that run here; and numpy starts no threads, which would take memory for each core of the machine.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    ) as child:
        try:
            _, said = child.communicate(manifest + artifact.graph + (artifact.sales or b""), limits.seconds)
        except subprocess.TimeoutExpired as error:
            msg = f"{artifact.manifest.version} did not load within {limits.seconds:g} s"
            raise DamagedArtifactError(msg) from error
        finally:
            if child.poll() is None:  # it overran, or we are interrupted: it goes with whatever it has started
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()  # Popen would not, after Ctrl-C
    if child.returncode != 0:
        raise DamagedArtifactError(_reason(artifact.manifest.version, child.returncode, said, limits))


def _reason(version: str, code: int, said: bytes, limits: SandboxLimits) -> str:
    if code == -signal.SIGXCPU:
        return f"{version} did not load within {limits.cpu_seconds} s of CPU"
    if code == OUT_OF_MEMORY:
        return f"{version} did not load within {limits.memory_bytes // MEBIBYTE:,} MiB of memory"
    if code < 0:
        return f"{version} ended the process that loaded it by {signal.Signals(-code).name}"
    return said.decode(errors="replace").rstrip().rpartition("\n")[2]  # the sentence, or the last line of a traceback


def _load(manifest_bytes: int, graph_bytes: int, cpu_seconds: int, memory_bytes: int) -> None:
    """Run in the child."""
    from pricing.inference.comparables import comparable_sales_of  # noqa: PLC0415 -- only the child needs onnxruntime
    from pricing.inference.predictor import load  # noqa: PLC0415 -- the same

    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CPU, cpu_seconds)
    _limit(resource.RLIMIT_AS, memory_bytes)
    try:
        manifest = Manifest.parse(sys.stdin.buffer.read(manifest_bytes))
        artifact = Artifact(manifest, sys.stdin.buffer.read(graph_bytes), sys.stdin.buffer.read())
        comparable_sales_of(artifact, load(artifact))
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except AppraiserError as error:
        sys.exit(OUT_OF_MEMORY if "alloc" in str(error) else str(error))  # as onnxruntime and orjson put it


def _limit(kind: int, most: int) -> None:
    """The soft limit, which a process dies of or hears of; it may not be above the hard one that there is."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    _load(*map(int, sys.argv[1:]))
