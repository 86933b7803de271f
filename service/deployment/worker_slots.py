"""The workers that run on this host, and what each of them serves: written by workers, read by commands that deploy.

Workers of several releases share the folder during an upgrade. The state of a worker carries its format, by
the rule of pricing/format.py. The other files have no fields: another layout of one has another name, and `metrics` and
`claim_log_message` look at the names below only.

<run>/slot-0         locked by a worker as long as it lives: the kernel frees it, however the worker dies
<run>/counter_0.db   what the workers of that slot have counted; see observability/metrics_file.py
<run>/histogram_0.db
<run>/slot-0.json    what that worker serves; of an unlocked slot it means nothing
<run>/.claims        locked while a slot is taken and its state reset, and while it is read: no reader sees half
<run>/.masters       shared by all gunicorn masters of this folder
<run>/`said-*`       sentences that are logged once, by whatever worker, while they are true
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from pricing.errors import AppraiserError
from pricing.files.locks import try_lock
from pricing.format import Stored, is_of_a_later_release, reason_of
from service.contract import Refused

METRICS_FILE: Final = re.compile(r"(counter|histogram)_[0-9]+\.db")


class RunFolderError(AppraiserError):
    """The folder cannot be read, so the running workers are unknown."""


class WorkerState(Stored):
    """The state of a worker. A worker of a later release may write more fields."""

    generation: int = 0
    """The deployment that is served whole; 0 when there is none yet."""
    ready: bool = False
    """Whether it can predict."""
    refused: tuple[Refused, ...] = ()
    keys_unreadable: bool = False
    """Whether it checks keys by what it has read before, or by nothing: the keys that are stored cannot be read."""


class Slot:
    """A number that belongs to one living process; another gets it when this one has died."""

    def __init__(self, root: Path, number: int, lock: int) -> None:
        self.number = number
        self._root = root
        self._lock = lock  # a descriptor that stays open until the process ends

    @property
    def metrics(self) -> tuple[Path, Path]:
        """Where its counters and its histograms are."""
        return self._root / f"counter_{self.number}.db", self._root / f"histogram_{self.number}.db"

    def write(self, state: WorkerState) -> None:
        """Write what this worker serves. Raises OSError."""
        aside = self._root / f".slot-{self.number}.json"
        aside.write_bytes(state.model_dump_json().encode())
        aside.replace(_state_file(self._root, self.number))

    def claim_log_message(self, sentence: str) -> bool:
        """Whether no worker of this service has logged the sentence yet; from now on one has. Raises OSError."""
        try:
            self._said(sentence).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def forget(self, sentence: str) -> None:
        """Let the sentence be logged again, by the next worker that has reason to. Raises OSError."""
        self._said(sentence).unlink(missing_ok=True)

    def _said(self, sentence: str) -> Path:
        return self._root / f"said-{hashlib.sha256(sentence.encode()).hexdigest()}"


class RunFolder:
    """The folder of the slots, on the host that runs the workers. Nothing is made before `hold` or `claim`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def hold(self) -> None:
        """For a master: remove what an earlier service left, unless an older master still runs, as in an upgrade.

        The folder is held until this process and all that it forks have ended. Raises OSError.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        masters = _open(self.root / ".masters")
        if try_lock(masters, fcntl.LOCK_EX):
            self._empty()
        fcntl.flock(masters, fcntl.LOCK_SH)

    def claim(self) -> Slot:
        """Take the lowest slot that is free. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._claims("ab", fcntl.LOCK_EX):
            for number in count():
                lock = _open(self.root / f"slot-{number}")
                if try_lock(lock, fcntl.LOCK_EX):
                    break
                os.close(lock)
            _state_file(self.root, number).unlink(missing_ok=True)  # of the worker before
        return Slot(self.root, number, lock)

    def workers(self) -> list[WorkerState]:
        """The state of each living worker. Raises RunFolderError."""
        return list(self.states().values())

    def states(self) -> dict[int, WorkerState]:
        """The state of each living worker by the number of its slot. Raises RunFolderError."""
        try:
            with self._claims("rb", fcntl.LOCK_SH):
                return {number: _state_of(self.root, number) for number in self._numbers() if self._is_taken(number)}
        except FileNotFoundError:  # no worker has ever been here
            return {}
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else _why(error)
            msg = f"the worker states in {self.root} cannot be read: {reason}"
            raise RunFolderError(msg) from error

    def metrics(self) -> list[Path]:
        """The files of all that workers have counted since the service was started."""
        return sorted(path for path in self.root.glob("*_*.db") if METRICS_FILE.fullmatch(path.name))

    def unowned(self) -> Iterator[Path]:
        """The files of each slot without a worker; none can take it until the next one is asked for. Raises OSError."""
        with self._claims("ab", fcntl.LOCK_EX):
            for number in self._numbers():
                if not self._is_taken(number):
                    yield from (path for path in self.root.glob(f"*_{number}.db") if path.stat().st_size)

    def _numbers(self) -> list[int]:
        names = (path.name.removeprefix("slot-") for path in self.root.glob("slot-*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def _is_taken(self, number: int) -> bool:
        with (self.root / f"slot-{number}").open("rb") as lock:
            return not try_lock(lock.fileno(), fcntl.LOCK_SH)

    def _empty(self) -> None:
        with self._claims("ab", fcntl.LOCK_EX):
            for number in self._numbers():
                if not self._is_taken(number):
                    _state_file(self.root, number).unlink(missing_ok=True)
                    (self.root / f"slot-{number}").unlink()
                    for path in self.root.glob(f"*_{number}.*"):  # of any layout
                        path.unlink()
            for said in self.root.glob("said-*"):
                said.unlink()

    @contextmanager
    def _claims(self, mode: str, kind: int) -> Iterator[None]:
        with (self.root / ".claims").open(mode) as lock:
            fcntl.flock(lock, kind)
            yield


def _state_file(root: Path, number: int) -> Path:
    return root / f"slot-{number}.json"


def _state_of(root: Path, number: int) -> WorkerState:
    try:
        return WorkerState.model_validate_json(_state_file(root, number).read_bytes())
    except FileNotFoundError:  # it has just taken its slot, or its disk is full
        return WorkerState()


def _why(error: ValidationError) -> str:
    reason = "a slot holds no state of a worker"
    return f"{reason}: {reason_of(error)}" if is_of_a_later_release(error) else reason


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
