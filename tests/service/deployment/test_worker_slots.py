"""Slots: a number for each living worker, and what it serves; seen from other processes, since locks are theirs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.contract import Refused
from service.deployment.worker_slots import RunFolder, RunFolderError, WorkerState
from tests.gunicorn_process import ROOT

WORKER = """
import sys
from pathlib import Path
from service.deployment.worker_slots import RunFolder, RunFolderError, WorkerState
slot = RunFolder(Path(sys.argv[1])).claim()
slot.write(WorkerState(generation=int(sys.argv[2])))
print(slot.number, flush=True)
sys.stdin.read()
"""
MASTER = """
import sys
from pathlib import Path
from service.deployment.worker_slots import RunFolder
RunFolder(Path(sys.argv[1])).hold()
print("held", flush=True)
sys.stdin.read()
"""


class Process:
    """A process that has done what it was started for, and lives on until it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.said = process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(program: str, *arguments: object) -> Iterator[Process]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Process(process)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_workers_take_the_lowest_slots_and_say_what_they_serve(run: RunFolder) -> None:
    with running(WORKER, run.root, 7) as first, running(WORKER, run.root, 8) as second:
        assert (first.said, second.said) == ("0", "1")
        assert run.workers() == [WorkerState(generation=7), WorkerState(generation=8)]


def test_the_slot_of_a_killed_worker_is_nobodys_until_another_takes_it(run: RunFolder) -> None:
    with running(WORKER, run.root, 7) as first, running(WORKER, run.root, 8):
        first.kill()
        assert run.workers() == [WorkerState(generation=8)]
        with running(WORKER, run.root, 9) as third:
            assert third.said == "0"
            assert run.workers() == [WorkerState(generation=9), WorkerState(generation=8)]


def test_a_worker_that_has_just_taken_a_slot_does_not_speak_for_the_one_before(run: RunFolder) -> None:
    with running(WORKER, run.root, 7) as first:
        first.kill()

    run.claim()

    assert run.workers() == [WorkerState(generation=0)]


def test_looking_takes_no_slot_away_from_a_worker_that_starts(run: RunFolder) -> None:
    with ExitStack() as stack:
        for number in range(5):
            worker = stack.enter_context(running(WORKER, run.root, 1))
            for _ in range(100):
                assert len(run.workers()) == number + 1
            assert worker.said == str(number)


def test_where_nobody_has_ever_worked_there_is_nobody_and_nothing_is_made(run: RunFolder) -> None:
    assert run.workers() == []
    assert not run.root.exists()


def test_what_a_slot_says_is_read_as_it_was_written(run: RunFolder) -> None:
    state = WorkerState(generation=3, refused=(Refused(generation=4, version="v1.1.0", reason="“é”"),))

    run.claim().write(state)

    assert run.workers() == [state]


def test_a_sentence_is_said_first_by_one_worker_only(run: RunFolder) -> None:
    one, two = run.claim(), run.claim()

    said = [slot.claim_log_message(sentence) for sentence in ("a", "a", "b") for slot in (one, two)]

    assert said == [True, False, False, False, True, False]


def test_a_new_master_removes_what_an_earlier_service_left(run: RunFolder) -> None:
    with running(WORKER, run.root, 7) as worker:
        worker.kill()
    assert (run.root / "slot-0.json").exists()
    slot = run.claim()
    slot.claim_log_message("something")
    os.close(slot._lock)

    with running(MASTER, run.root):
        assert {path.name for path in run.root.iterdir()} == {".claims", ".masters"}


def test_a_new_master_leaves_everything_while_an_older_one_runs(run: RunFolder) -> None:
    with running(MASTER, run.root), running(WORKER, run.root, 7) as worker:
        worker.kill()
        before = {path.name for path in run.root.iterdir()}

        with running(MASTER, run.root):
            assert {path.name for path in run.root.iterdir()} == before


def test_a_new_master_leaves_the_slots_of_workers_that_live(run: RunFolder) -> None:
    with running(WORKER, run.root, 7), running(MASTER, run.root):
        assert run.workers() == [WorkerState(generation=7)]


def test_a_folder_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for take in (RunFolder(tmp_path / "file" / "run").claim, RunFolder(tmp_path / "file" / "run").hold):
        with pytest.raises(NotADirectoryError):
            take()


def test_a_worker_of_a_later_release_may_say_more(run: RunFolder) -> None:
    run.claim()
    (run.root / "slot-0.json").write_text('{"generation": 7, "refused": [], "more": 1}')

    assert run.workers() == [WorkerState(generation=7)]


@pytest.mark.parametrize("content", ["", "{", '{"generation": "many"}'])
def test_a_slot_that_holds_no_state_is_told(run: RunFolder, content: str) -> None:
    run.claim()
    (run.root / "slot-0.json").write_text(content)

    with pytest.raises(RunFolderError, match=r"run cannot be read: a slot holds no state of a worker$"):
        run.workers()


def test_a_folder_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").touch()

    with pytest.raises(RunFolderError, match=r"run cannot be read: Not a directory$"):
        RunFolder(tmp_path / "run").workers()
