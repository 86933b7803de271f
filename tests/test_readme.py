"""Every console block of README is typed in, and must print what README says."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from service.deployment.worker_slots import RunFolder
from tests.gunicorn_process import gunicorn
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
PLACES = ("APPRAISER_ARTIFACTS", "APPRAISER_JOURNAL")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"^```shell-session\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What differs from one run to the next: moments, and ids, which are made of them or at random.
MOMENT = re.compile(
    r"20\d\d-\d\d-[\dT:.+Z-]*(?: \d\d:\d\d(?::\d\d)? UTC)?|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}|\b[0-9a-f]{12}\b"
)


def typed_and_printed() -> list[tuple[str, str]]:
    """Each command of the console blocks, and what README says that it prints."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = "".join(BLOCK.findall(readme)).split("$ ")[1:]
    return [(command, printed) for command, _, printed in (line.partition("\n") for line in lines)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service answers that README's first command starts."""
    artifacts = tmp_path_factory.mktemp("readme") / "artifacts"
    trained = CliRunner().invoke(main, ["--artifacts", str(artifacts), "train"])
    assert trained.exit_code == 0, trained.output
    with gunicorn(None, cwd=ROOT, workers=2, env={"APPRAISER_ARTIFACTS": str(artifacts)}) as service:
        yield f"localhost:{service.port}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("command", "printed"), typed_and_printed())
def test_readme_shows_what_its_commands_print(command: str, printed: str, address: str, tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    typed = command.replace("localhost:8000", address)
    found = subprocess.run(
        ["bash", "-c", typed], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    observed = (found.stdout + found.stderr).rstrip("\n")
    assert MOMENT.sub("MOMENT", observed) == MOMENT.sub("MOMENT", printed.rstrip("\n"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("session", SESSION.findall((ROOT / "README.md").read_text(encoding="utf-8")))
def test_readme_shows_what_a_session_prints(session: str, tmp_path: Path) -> None:
    """Its commands depend on each other: one service, one folder, one after the other."""
    places = {name: str(tmp_path / name.removeprefix("APPRAISER_").lower()) for name in PLACES}
    assert CliRunner().invoke(main, ["--artifacts", places["APPRAISER_ARTIFACTS"], "train"]).exit_code == 0
    asked_for = {"APPRAISER_REQUIRE_KEYS": str("appraiser keys" in session)}
    with gunicorn(None, cwd=ROOT, workers=2, env=places | asked_for) as service:
        wait_until(lambda: len(RunFolder(service.run).workers()) == 2)
        places |= {"APPRAISER_RUN": str(service.run), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        for typed in session.split("$ ")[1:]:
            command, _, printed = typed.partition("\n")
            found = subprocess.run(
                ["bash", "-c", command.replace("localhost:8000", f"localhost:{service.port}")],
                cwd=tmp_path,
                env=os.environ | places,
                capture_output=True,
                text=True,
                check=False,
            )
            observed = (found.stdout + found.stderr).rstrip("\n")
            assert MOMENT.sub("MOMENT", observed) == MOMENT.sub("MOMENT", printed.rstrip("\n")), command


def test_readme_shows_at_least_one_command_for_each_endpoint() -> None:
    commands = " ".join(command for command, _ in typed_and_printed())
    for path in (
        "/predict ",
        "/predict/batch",
        "/models",
        "/model/info",
        "/metrics",
        "/health/ready",
        "/health ",
        "/docs",
        "/openapi.json",
    ):
        assert path in commands + " ", path
