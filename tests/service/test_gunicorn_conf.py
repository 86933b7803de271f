"""gunicorn.conf.py: what it makes of the environment, and of a wrong one."""

import errno
import os
import re
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import pytest

from service.settings import OUR_WORKER, check_platform
from tests.gunicorn_process import ROOT

CONF: Final = str(ROOT / "gunicorn.conf.py")
CPUS: Final = len(os.sched_getaffinity(0))


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], dict[str, Any]]:
    """Run gunicorn.conf.py in an environment of its own."""

    def run(environment: dict[str, str]) -> dict[str, Any]:
        for name in ("PORT", "WEB_CONCURRENCY", *(name for name in os.environ if name.startswith("APPRAISER_"))):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(CONF)

    return run


Configure = Callable[[dict[str, str]], dict[str, Any]]


def test_it_needs_no_environment(configure: Configure) -> None:
    found = configure({})

    assert found["bind"] == found["addresses"]("8000")
    assert (found["wsgi_app"], found["preload_app"]) == ("service.app:create_app()", False)
    assert (found["worker_class"], found["threads"]) == (OUR_WORKER, 1)
    assert 1 <= found["workers"] <= CPUS


def test_it_listens_on_port(configure: Configure) -> None:
    assert {address.rpartition(":")[2] for address in configure({"PORT": "1234"})["bind"]} == {"1234"}


class Probe:
    """A socket of IPv6, on a host where those are for IPv6 alone or not."""

    def __init__(self, *, is_v6_only: bool) -> None:
        self._is_v6_only = is_v6_only

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bind(self, address: tuple[str, int]) -> None:
        assert address == ("::", 0)

    def getsockopt(self, *option: int) -> int:
        assert option == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return int(self._is_v6_only)


def no_socket(family: int) -> Probe:
    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT), family)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda _: Probe(is_v6_only=False), ["[::]:80"], id="one socket takes both"),
        pytest.param(lambda _: Probe(is_v6_only=True), ["0.0.0.0:80", "[::]:80"], id="one for each"),
        pytest.param(no_socket, ["0.0.0.0:80"], id="a host without IPv6"),
    ],
)
def test_it_listens_on_both_families_as_far_as_the_host_has_them(
    configure: Configure, make: Callable[[int], Probe], expected: list[str]
) -> None:
    assert configure({})["addresses"]("80", make) == expected


def test_an_idle_connection_outlives_that_of_a_load_balancer_unless_a_setting_says_otherwise(
    configure: Configure,
) -> None:
    assert configure({})["keepalive"] > 60
    assert configure({"APPRAISER_KEEPALIVE_SECONDS": "7"})["keepalive"] == 7


def test_web_concurrency_is_the_number_of_workers(configure: Configure) -> None:
    assert configure({"WEB_CONCURRENCY": "7"})["workers"] == 7


def test_another_worker_class_is_one_setting_away(configure: Configure) -> None:
    found = configure({"APPRAISER_WORKER": "gthread"})

    assert found["worker_class"] == "gthread"
    assert found["threads"] > 1


@pytest.mark.parametrize(
    ("trusted", "networks", "is_believed"),
    [
        ("", "", False),
        ("unix", "", True),
        ("unix, 10.0.0.2", "10.0.0.2/32,::ffff:10.0.0.2/128", True),
        ("10.0.0.0/8, fd00::1", "10.0.0.0/8,::ffff:10.0.0.0/104,fd00::1/128", True),
    ],
)
def test_gunicorn_believes_the_same_proxies(
    configure: Configure, trusted: str, networks: str, *, is_believed: bool
) -> None:
    found = configure({"APPRAISER_TRUSTED_PROXIES": trusted})

    assert found["forwarded_allow_ips"] == networks
    assert bool(found["secure_scheme_headers"]) == is_believed


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("max 100000", CPUS),
        ("100000 100000", 1),
        ("199999 100000", 1),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("200000 100000", min(2, CPUS)),
        ("40000000 100000", CPUS),
        ("", CPUS),
        ("max", CPUS),
    ],
)
def test_workers_are_no_more_than_the_quota_of_the_control_group(
    configure: Configure, tmp_path: Path, quota: str, cpus: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota, encoding="ascii")

    assert configure({})["usable_cpus"](tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1\n", CPUS), ("100000\n", 1), ("50000\n", 1), ("40000000\n", CPUS)])
def test_a_quota_of_the_first_kind_of_control_groups_counts_too(
    configure: Configure, tmp_path: Path, quota: str, cpus: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota, encoding="ascii")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n", encoding="ascii")

    assert configure({})["usable_cpus"](tmp_path) == cpus


def test_without_a_control_group_all_allowed_cpus_are_used(configure: Configure, tmp_path: Path) -> None:
    assert configure({})["usable_cpus"](tmp_path / "nothing") == CPUS


def test_only_the_allowed_cpus_are_counted() -> None:
    cpu = min(os.sched_getaffinity(0))
    program = (
        "import os, runpy, sys, pathlib; os.sched_setaffinity(0, {int(sys.argv[1])});"
        "print(runpy.run_path(sys.argv[2])['usable_cpus'](pathlib.Path('nothing')))"
    )
    command = [sys.executable, "-c", program, str(cpu), CONF]

    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout == b"1\n"


def test_a_wrong_setting_ends_the_start_with_one_line() -> None:
    environment = os.environ | {"APPRAISER_MAX_BATCH_ROWS": "many"}
    command = [sys.executable, "-m", "gunicorn"]

    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)

    sentence = "Input should be a valid integer, unable to parse string as an integer"
    assert found.stderr == f"APPRAISER_MAX_BATCH_ROWS='many': {sentence}\n"
    assert (found.returncode, found.stdout) == (1, "")


WRONG: Final = [
    ("PORT", "70000", "Input should be less than or equal to 65535"),
    ("PORT", "-1", "Input should be greater than or equal to 0"),
    ("PORT", "tcp://10.0.0.1:80", "Input should be a valid integer, unable to parse string as an integer"),
    ("WEB_CONCURRENCY", "abc", "Input should be a valid integer, unable to parse string as an integer"),
    ("WEB_CONCURRENCY", "1.5", "Input should be a valid integer, unable to parse string as an integer"),
    ("WEB_CONCURRENCY", "-1", "Input should be greater than or equal to 0"),
    ("WEB_CONCURRENCY", "100000", "Input should be less than or equal to 1000"),
]


@pytest.mark.parametrize(("name", "text", "sentence"), WRONG)
def test_a_wrong_port_or_number_of_workers_ends_the_service_with_one_line(name: str, text: str, sentence: str) -> None:
    command = [sys.executable, "-c", "from cli import main; main()", "serve"]
    found = subprocess.run(
        command, cwd=ROOT, env=os.environ | {name: text}, capture_output=True, text=True, timeout=60, check=False
    )

    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"Error: {name}={text!r}: {sentence}\n"


@pytest.mark.parametrize(("name", "text", "sentence"), WRONG)
def test_the_configuration_refuses_them_too(configure: Configure, name: str, text: str, sentence: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(f"{name}={text!r}: {sentence}")):
        configure({name: text})


def test_an_empty_port_or_number_of_workers_is_as_good_as_none(configure: Configure) -> None:
    found = configure({"PORT": "", "WEB_CONCURRENCY": ""})

    assert {address.rpartition(":")[2] for address in found["bind"]} == {"8000"}
    assert 1 <= found["workers"] <= CPUS


def test_heartbeats_go_to_the_run_folder_where_there_is_no_memory_to_write_to(
    configure: Configure, tmp_path: Path
) -> None:
    folder = configure({})["heartbeat_folder"]

    assert folder(tmp_path, tmp_path / "run") == str(tmp_path)
    assert folder(tmp_path / "missing", tmp_path / "run") == str(tmp_path / "run")


def test_another_system_is_told_that_the_program_runs_on_linux() -> None:
    check_platform("linux")
    with pytest.raises(SystemExit, match=r"^Appraiser runs on Linux, and this is darwin; run it in a container"):
        check_platform("darwin")
