"""Every console block of README and of docs/ is typed in, and must print what the page shows."""

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
from docs.generate import pages, routes_table, settings_table
from service.deployment.worker_slots import RunFolder
from tests.gunicorn_process import gunicorn
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
PLACES = ("APPRAISER_ARTIFACTS", "APPRAISER_JOURNAL")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"^```shell-session\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What differs from one run to the next: moments, and ids, which are made of them or at random.
MOMENT = re.compile(
    r"20\d\d-\d\d-[\dT:.+Z-]*(?: \d\d:\d\d(?::\d\d)? UTC)?|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}|\b[0-9a-f]{12}\b"
)


def typed_and_printed() -> list[tuple[str, str]]:
    """Each command of the console blocks, and what the page shows that it prints."""
    blocks = [block for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    lines = "".join(blocks).split("$ ")[1:]
    return [(command, printed) for command, _, printed in (line.partition("\n") for line in lines)]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts that README's first command makes."""
    artifacts = tmp_path_factory.mktemp("readme") / "artifacts"
    result = CliRunner().invoke(main, ["--artifacts", str(artifacts), "train"])
    assert result.exit_code == 0, result.output
    return artifacts


@pytest.fixture(scope="module")
def address(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service answers that README's first command starts."""
    artifacts = shutil.copytree(trained, tmp_path_factory.mktemp("service") / "artifacts")
    with gunicorn(None, cwd=ROOT, workers=2, env={"APPRAISER_ARTIFACTS": str(artifacts)}) as service:
        yield f"localhost:{service.port}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("command", "printed"), typed_and_printed())
def test_a_page_shows_what_its_commands_print(command: str, printed: str, address: str, tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    typed = command.replace("localhost:8000", address)
    found = subprocess.run(
        ["bash", "-c", typed], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    observed = (found.stdout + found.stderr).rstrip("\n")
    assert MOMENT.sub("MOMENT", observed) == MOMENT.sub("MOMENT", printed.rstrip("\n"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("session", [session for page in PAGES for session in SESSION.findall(page.read_text("utf-8"))])
def test_a_page_shows_what_a_session_prints(session: str, trained: Path, tmp_path: Path) -> None:
    """Its commands depend on each other: one service, one folder, one after the other."""
    places = {name: str(tmp_path / name.removeprefix("APPRAISER_").lower()) for name in PLACES}
    shutil.copytree(trained, places["APPRAISER_ARTIFACTS"])
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


def test_the_pages_show_at_least_one_command_for_each_endpoint() -> None:
    commands = " ".join(command for command, _ in typed_and_printed())
    for path in (
        "/predict ",
        "/predict/batch",
        "/models",
        "/model/info",
        "/model/report",
        "/metrics",
        "/health/ready",
        "/health ",
        "/docs",
        "/openapi.json",
        "/v2 ",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models ",
        "/v2/models/appraiser ",
        "/v2/models/appraiser/ready",
        "/v2/models/appraiser/versions/v1.0.0/ready",
        "/v2/models/appraiser/infer",
        "/v2/models/appraiser/versions/v1.0.0/infer",
    ):
        assert path in commands + " ", path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readme_is_short_and_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 130
    assert {f"docs/{page.name}" for page in PAGES[1:]} - set(LINK.findall(readme)) == set()


def test_the_tables_that_are_made_from_the_code_are_current() -> None:
    assert {path.name: path.read_text("utf-8") for path in pages()} == {
        path.name: text for path, text in pages().items()
    }
    assert "`APPRAISER_CACHE_SIZE`" in settings_table()
    assert "`/predict/batch`" in routes_table()


def test_the_python_client_of_the_pages_prints_a_price(address: str, tmp_path: Path) -> None:
    (program,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs/migrating.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "client.py").write_text(program.replace("localhost:8000", address))
    found = subprocess.run([sys.executable, "client.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+ dollars by v1\.0\.0\n", found.stdout)
