"""Which package may import which: read from the source, and seen in a fresh interpreter that serves."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pricing.store import Store

ROOT: Final = Path(__file__).resolve().parents[1]
OURS: Final = {"pricing", "service", "train", "cli"}
TRAINING: Final = {"sklearn", "scipy", "skl2onnx", "onnx", "pandas", "joblib", "pickle", "duckdb", "rich"}
FORBIDDEN: Final = {
    "pricing": OURS | TRAINING | {"flask", "werkzeug", "gunicorn"},
    "service": OURS - {"pricing"} | TRAINING,
    "train": OURS - {"pricing"} | {"flask", "werkzeug", "gunicorn"},
    "cli.py": set(),
}


def imports(source: Path) -> Iterator[str]:
    """First names of what a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way(package: str) -> None:
    sources = list((ROOT / package).rglob("*.py")) or [ROOT / package]
    found = {(source.name, name) for source in sources for name in imports(source)}

    assert {(file, name) for file, name in found if name in FORBIDDEN[package] - {package}} == set()
    assert len(found) > 5  # else this has read nothing


def calls(source: Path, *names: str) -> Iterator[str]:
    """Which of these methods a file calls, of whatever object."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
            yield node.func.attr


def test_nothing_is_published_or_deployed_but_where_it_is_proved_before() -> None:
    sources = [path for package in FORBIDDEN for path in (*(ROOT / package).rglob("*.py"), ROOT / package)]
    found = [
        (source.name, name)
        for source in sources
        if source.is_file()
        for name in calls(source, "publish", "point", "deploy")
    ]

    assert sorted(found) == [
        ("command.py", "publish"),  # `publish` proves before
        ("rollout.py", "point"),  # `roll_out` proves before
        ("rollout.py", "point"),  # `_take_back`: what was deployed before is deployed again
        ("store.py", "point"),  # `Store.deploy`, which nobody calls but tests and benchmarks
    ]


WALL_CLOCK: Final = {
    "answer.py": "predicted_at, a statement",
    "app.py": "hands the clock of the two others on",
    "guard.py": "a key expires at a time of the wall clock",
    "keys.py": "when a key is made, revoked, or expires",
    "cli.py": "which keys have expired",
    "logs.py": "when a request was answered, a statement",
    "sink.py": "when lines were dropped, a statement",
    "clock.py": "compares it with a monotonic one, to see whether it can be believed",
    "training.py": "when a version was made, a statement",
    "ids.py": "ids are in the order of time, and only rise",
    "journal.py": "days of the journal's files",
}
"""Who reads it, and for what: durations are measured by a monotonic clock, so that one that is set changes none."""
READS_IT: Final = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("date", "today"),
}


def reads_wall_clock(source: Path) -> bool:
    """Whether a file names a function that tells the time of day."""
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in READS_IT
        for node in ast.walk(ast.parse(source.read_bytes()))
    )


def test_the_wall_clock_is_read_for_statements_and_never_for_durations() -> None:
    sources = [path for package in ("pricing", "service", "train") for path in (ROOT / package).rglob("*.py")]
    found = {
        source.name for source in (*sources, ROOT / "cli.py", ROOT / "gunicorn.conf.py") if reads_wall_clock(source)
    }

    assert found <= set(WALL_CLOCK)
    assert "answer.py" in found  # else this has read nothing


def test_every_package_has_its_rule() -> None:
    packages = {path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")}

    assert packages | {"cli.py"} == set(FORBIDDEN)


def run_fresh(program: str, cwd: Path, environment: dict[str, str]) -> str:
    """What `program` prints in an interpreter of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-W", "error", "-c", program]
    found = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


SERVE: Final = """
import sys
from service.app import create_app
house = {"square_feet": 2000, "bedrooms": 3, "bathrooms": 2, "age_years": 10, "distance_to_city": 5}
client = create_app().test_client()
assert client.post("/predict", json=house).status_code == 200
assert client.post("/predict/batch", json={"houses": [house]}).status_code == 200
for path in ("/health", "/models", "/model/info", "/openapi.json", "/docs"):
    assert client.get(path).status_code == 200, path
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_a_service_that_answers_has_loaded_nothing_of_training(store: Store, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    places = {"APPRAISER_ARTIFACTS": str(store.root), "APPRAISER_RUN": str(tmp_path / "run")}
    places["APPRAISER_JOURNAL"] = str(tmp_path / "journal")
    loaded = run_fresh(SERVE, home, places).split()

    assert "onnxruntime" in loaded
    assert set(loaded) & (TRAINING - {"pickle", "rich"} | {"train", "cli"}) == set()  # numpy and structlog load these
    assert list(home.iterdir()) == []  # neither in the working folder nor at home, where onnxruntime would write


def test_an_import_neither_reads_the_environment_nor_makes_anything(tmp_path: Path) -> None:
    wrong = {
        "APPRAISER_MAX_BATCH_ROWS": "many",
        "APPRAISER_WORKER": "none",
        "APPRAISER_ARTIFACTS": "here",
        "APPRAISER_RUN": "here",
    }

    run_fresh("import service.app, service.worker, cli", tmp_path, wrong)

    assert list(tmp_path.iterdir()) == []
