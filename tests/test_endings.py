"""How commands end: interrupted, with output that cannot be written, and what their exit codes say."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from cli import main
from cli.endings import CHANGED, PIPE_CLOSED
from pricing.artifacts.store import Artifact, Store
from service.access.api_keys import KeyStore
from service.deployment.worker_slots import RunFolder, WorkerState
from tests.gunicorn_process import ROOT
from tests.waiting import wait_until
from train.promotion.publish import publish_next
from train.sales import market
from train.sales.tables import COLUMNS

SIGNALS: Final = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SECONDS: Final = 60.0


@pytest.fixture
def two(store: Store, published: Artifact) -> Store:
    """v1.0.0 is deployed, v1.1.0 is published."""
    store.publish(named(published, "v1.1.0"))
    return store


@pytest.fixture
def stuck(two: Store) -> Iterator[Store]:
    """A worker lives that never serves another deployment."""
    slot = RunFolder(two.root.with_name("run")).claim()
    slot.write(WorkerState(generation=1, ready=True))
    yield two
    os.close(slot._lock)


def named(artifact: Artifact, version: str) -> Artifact:
    return artifact._replace(manifest=artifact.manifest.model_copy(update={"version": version}))


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)} | more


def command(store: Store, *arguments: str) -> list[str]:
    places = [f"--{name}={store.root.with_name(name)}" for name in ("artifacts", "run", "journal")]
    return [sys.executable, "-c", "from cli import main; main()", *places, *arguments]


@contextmanager
def started(store: Store, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(store, *arguments), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def shell(store: Store, arguments: str, redirection: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What a shell does with the output of a command; its exit code is that of the command."""
    words = command(store, *arguments.split())
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', "bash", *words],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("arguments", [("promote", "v1.1.0"), ("split", "v1.0.0=90", "v1.1.0=10")])
def test_an_interruption_takes_back_what_no_worker_has_confirmed(
    stuck: Store, arguments: tuple[str, ...], number: signal.Signals
) -> None:
    with started(stuck, *arguments) as process:
        wait_until(lambda: stuck.deployment().generation == 2)
        process.send_signal(number)
        told, error = process.communicate(timeout=SECONDS)

    assert (told, error) == (
        "",
        f"Error: interrupted by {number.name}; v1.0.0 is deployed again, as generation 3\n",
    )
    assert process.returncode == 128 + number
    assert (stuck.deployment().champion, stuck.deployment().split) == ("v1.0.0", {})


def test_a_rollback_that_is_interrupted_is_taken_back(stuck: Store) -> None:
    stuck.deploy("v1.1.0")
    with started(stuck, "rollback") as process:
        wait_until(lambda: stuck.deployment().generation == 3)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=SECONDS)

    assert error == "Error: interrupted by SIGTERM; v1.1.0 is deployed again, as generation 4\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_an_interruption_that_cannot_be_taken_back_has_a_code_of_its_own_and_says_what_is_deployed(
    stuck: Store,
) -> None:
    (stuck.root / "deployment.json").unlink()  # so that nothing was deployed before
    with started(stuck, "promote", "v1.1.0") as process:
        wait_until(lambda: stuck.current() is not None and stuck.deployment().champion == "v1.1.0")
        # the worker is at generation 1, which the first deployment is too: another worker has none
        process.wait(SECONDS)
    slot = RunFolder(stuck.root.with_name("run")).claim()
    slot.write(WorkerState(generation=7))
    (stuck.root / "deployment.json").unlink()
    with started(stuck, "promote", "v1.1.0") as process:
        wait_until(lambda: stuck.current() is not None)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=SECONDS)
    os.close(slot._lock)

    assert error == (
        "Error: interrupted by SIGINT; nothing was deployed before, so it stays deployed: promote another version; "
        "v1.1.0 is deployed as generation 1\n"
    )
    assert process.returncode == CHANGED


def test_an_unforeseen_error_in_the_waiting_is_taken_back_and_told(stuck: Store) -> None:
    with started(stuck, "promote", "v1.1.0") as process:
        wait_until(lambda: stuck.deployment().generation == 2)
        (stuck.root.with_name("run") / "slot-0.json").write_bytes(b"no state")
        _, error = process.communicate(timeout=SECONDS)

    assert error.startswith("Error: the worker states in ")
    assert error.endswith("; v1.0.0 is deployed again, as generation 3\n")
    assert process.returncode == 1


def test_a_second_interruption_still_says_what_is_deployed(stuck: Store) -> None:
    with started(stuck, "promote", "v1.1.0") as process:
        wait_until(lambda: stuck.deployment().generation == 2)
        with stuck._writing():  # so that taking it back waits
            process.send_signal(signal.SIGINT)
            wait_until(lambda: is_waiting_for_a_lock(process.pid))
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=SECONDS)

    assert error == (
        "Error: interrupted by SIGINT; not taken back, since taking it back ended by Interrupted; "
        "v1.1.0 is deployed as generation 2\n"
    )
    assert process.returncode == CHANGED
    assert stuck.deployment().generation == 2


def is_waiting_for_a_lock(pid: int) -> bool:
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text("ascii").splitlines())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_training_that_is_interrupted_says_that_nothing_has_changed(store: Store, number: signal.Signals) -> None:
    with started(store, "train") as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        process.send_signal(number)
        _, error = process.communicate(timeout=SECONDS)

    assert error == f"Error: interrupted by {number.name}; nothing has changed\n"
    assert process.returncode == 128 + number
    assert store.versions() == ["v1.0.0"]


def test_a_hangup_that_nohup_ignores_stays_ignored(stuck: Store) -> None:
    words = ["nohup", *command(stuck, "promote", "v1.1.0")]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: stuck.deployment().generation == 2)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)

    assert process.returncode == 128 + signal.SIGTERM


READS: Final = ["models", "keys list", "--help", "verify v1.0.0"]


@pytest.mark.parametrize("arguments", READS)
def test_a_reader_that_leaves_ends_a_command_without_a_word(two: Store, arguments: str) -> None:
    KeyStore(two.root).create("a", ["read"], None)
    ended = shell(two, arguments, "| (exec <&-; sleep 0)")

    assert (ended.returncode in {0, PIPE_CLOSED}, ended.stderr) == (True, "")  # 0 if it was faster


@pytest.mark.parametrize("arguments", READS)
def test_a_full_disk_under_the_output_is_told(two: Store, arguments: str) -> None:
    KeyStore(two.root).create("a", ["read"], None)
    ended = shell(two, arguments, ">/dev/full")

    assert (ended.returncode, ended.stderr) == (1, "Error: the output cannot be written: No space left on device\n")


def test_what_is_deployed_when_the_output_cannot_be_written_is_told(two: Store) -> None:
    ended = shell(two, "promote v1.1.0", ">/dev/full")

    assert ended.returncode == CHANGED
    assert ended.stderr == (
        "Error: the output cannot be written: No space left on device; v1.1.0 is deployed as generation 2\n"
    )


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "2>&-", "2>/dev/full", "<&-"])
def test_a_closed_stream_costs_a_command_nothing(two: Store, redirection: str) -> None:
    ended = shell(two, "models", redirection)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_key_that_nobody_would_see_is_not_made(store: Store) -> None:
    ended = shell(store, "keys create shop --scope read", ">&-")

    assert ended.returncode == 1
    assert ended.stderr == "Error: standard output is closed, so the key cannot be printed; nothing has changed\n"
    assert KeyStore(store.root).stored() == ()


def test_a_key_that_could_not_be_printed_is_told_by_its_id(store: Store) -> None:
    ended = shell(store, "keys create shop --scope read", ">/dev/full")

    (key,) = KeyStore(store.root).stored()
    assert ended.returncode == CHANGED
    assert ended.stderr.splitlines()[1] == (
        "Error: the output cannot be written: No space left on device; "
        f"the key {key.id} was created but not printed: `appraiser keys revoke {key.id}` revokes it"
    )


@pytest.mark.parametrize(
    "variables",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}],
)
def test_what_the_terminal_cannot_show_is_written_otherwise(store: Store, variables: dict[str, str]) -> None:
    ended = shell(store, "models", "", **variables)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("v1.0.0     champion")


def test_a_training_speaks_also_where_there_is_nothing_but_ascii(store: Store) -> None:
    ended = shell(store, "train --family gradient-boosting", "", PYTHONIOENCODING="ascii")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert store.versions() == ["v1.0.0", "v1.1.0"]


def test_a_pipe_of_sales_is_refused_and_not_waited_for(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sales.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name, kind in (("sales.csv", "a pipe"), ("zero.csv", "a device")):
        path = tmp_path / name
        ended = shell(store, f"train --data {path}", "")
        assert ended.returncode == 1
        assert ended.stderr == (
            f"Error: {path}: expected a regular file, got {kind}; write its content to a file first\n"
        )


def test_a_file_whose_name_is_not_utf_8_is_refused(store: Store, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/sales\xff.csv"
    Path(os.fsdecode(path)).write_text("price\n1\n", "ascii")
    ended = subprocess.run(
        [*command(store, "train", "--data"), path], env=environment(), capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr.endswith("sales\\udcff.csv: the name is not valid UTF-8; rename the file\n")


def test_two_trainings_at_once_publish_two_versions(store: Store, published: Artifact) -> None:
    def put(found: Artifact) -> None:
        store.publish(found)

    again = [publish_next(store, published, put).manifest.version for _ in range(2)]

    assert (again, store.versions()) == (["v1.1.0", "v1.2.0"], ["v1.0.0", "v1.1.0", "v1.2.0"])


class TestPruning:
    @pytest.fixture
    def sales(self, tmp_path: Path) -> Path:
        columns = market.synthetic_sales(1_500, seed=0)
        rows = [",".join(map(str, row)) for row in zip(*(columns[name].tolist() for name in COLUMNS), strict=True)]
        path = tmp_path / "sales.csv"
        path.write_text("\n".join([",".join(COLUMNS), *rows]))
        return path

    @pytest.mark.parametrize("state", ["missing", "no list", "empty list beside a segment"])
    def test_nothing_is_removed_while_it_is_not_known_what_the_journal_names(
        self, two: Store, sales: Path, state: str
    ) -> None:
        journal = two.root.with_name("journal")
        if state != "missing":
            journal.mkdir()
            (journal / "host-0-20260101T000000.000000Z.jsonl").touch()
        if state == "empty list beside a segment":
            (journal / ".versions").mkdir()

        words = ["--artifacts", two.root, "--run", two.root.with_name("run"), "--journal", journal, "train"]
        options = ["--data", sales, "--family", "gradient-boosting", "--keep", "1"]
        result = CliRunner().invoke(main, [str(word) for word in (*words, *options)])

        assert result.exit_code == 0
        assert two.versions() == ["v1.0.0", "v1.1.0", "v1.2.0"]
        (line,) = result.stderr.splitlines()
        assert line.startswith("no version is removed, though more than 1 are published: the versions that the journal")
        assert line.endswith("; --journal or APPRAISER_JOURNAL names its folder")
