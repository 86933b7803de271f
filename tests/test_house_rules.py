"""Which package may import which: read from the source, and seen in a fresh interpreter that serves."""

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from pricing.artifacts.store import Store

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("pricing", "worker", "service", "report", "train", "score", "cli")
TRAINING: Final = {"sklearn", "scipy", "skl2onnx", "onnx", "pandas", "joblib", "pickle", "duckdb", "rich"}
WEB: Final = {"flask", "werkzeug", "gunicorn"}
FORBIDDEN: Final = {
    "pricing": TRAINING | WEB,
    "worker": TRAINING,
    "service": TRAINING,
    "report": TRAINING | WEB,
    "train": WEB,
    "score": (TRAINING - {"duckdb", "rich"}) | WEB,
    "cli": set[str](),
}
ROOMS: Final = (
    ("pricing",),
    ("pricing.files", "worker"),
    ("pricing.artifacts",),
    ("pricing.inference",),
    ("pricing.journal",),
    ("service.reply",),
    ("service.errors", "service.trace"),
    ("service.settings", "service.contract"),
    ("service.access",),
    ("service.deployment",),
    ("service.observability",),
    ("service.predictions",),
    ("service.open_inference",),
    ("service.api",),
    ("service.resources",),
    ("service.app",),
    ("report",),
    ("train.errors",),
    ("train.sales",),
    ("train.study",),
    ("train.models",),
    ("train.evidence",),
    ("train.promotion",),
    ("score",),
    ("cli",),
)
"""A room imports only rooms that stand above it in this list. What stands in the folder of a package is the package's
own room, but in `service`, where it is the ground floor and the roof."""
BESIDE: Final = {
    "train": {"service"},
    "service": {"train", "report"},
    "report": {"service", "worker"},
    "worker": {"pricing"},
    "score": {"service", "report"},
}
"""What is above by the list, and no business of these."""
MAX_MODULES: Final = 9
MAX_SHARE: Final = 0.2


def module_of(source: Path) -> str:
    """Its dotted name."""
    return ".".join(source.relative_to(ROOT).with_suffix("").parts)


SOURCES: Final = {
    module_of(source): source
    for package in PACKAGES
    for source in sorted((ROOT / package).rglob("*.py"))
    if source.stat().st_size
}


def room_of(module: str) -> tuple[int, str]:
    """Its floor, and its room: the longest name in the list."""
    found = [
        (floor, room)
        for floor, rooms in enumerate(ROOMS)
        for room in rooms
        if module == room or module.startswith(room + ".")
    ]
    return max(found, key=lambda item: len(item[1]))


def imports(source: Path) -> Iterator[str]:
    """What a file imports, also inside its functions and for its types only: modules of ours, or first names."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            known = next((known for known in (name, name.rpartition(".")[0]) if known in SOURCES), None)
            yield known or name.partition(".")[0]


def breaches(edges: Iterable[tuple[str, str]]) -> list[str]:
    """Imports that go up, or that cross from one room to another of the same floor."""
    found = []
    for source, target in edges:
        (floor, room), (other_floor, other) = room_of(source), room_of(target)
        is_beside = target.partition(".")[0] in BESIDE.get(source.partition(".")[0], ())
        if is_beside or (room != other and other_floor >= floor):
            found.append(f"{source} imports {target}")
    return found


def edges() -> set[tuple[str, str]]:
    """All imports of ours among ours."""
    return {(module, name) for module, source in SOURCES.items() for name in imports(source) if name in SOURCES}


def cycles(found: set[tuple[str, str]]) -> str:
    """The modules of a cycle; nothing without one."""
    graph: dict[str, set[str]] = {}
    for source, target in found:
        graph.setdefault(source, set()).add(target)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return str(error.args[1])
    return ""


def test_a_room_imports_only_rooms_below_it() -> None:
    assert breaches(edges()) == []
    assert len(edges()) > 150  # else this has read nothing


@pytest.mark.parametrize(
    "bad",
    [
        ("pricing.house", "pricing.artifacts.store"),
        ("service.access.guard", "service.observability.metrics"),
        ("service.reply", "service.app"),
        ("worker.connection", "service.reply"),
        ("worker.connection", "pricing.house"),
        ("train.sales.rows", "service.reply"),
        ("service.app", "train.errors"),
        ("train.sales.rows", "train.promotion.judge"),
    ],
)
def test_an_import_that_goes_up_is_found(bad: tuple[str, str]) -> None:
    assert breaches([bad]) == [f"{bad[0]} imports {bad[1]}"]


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert cycles(edges()) == ""
    assert "service.app" in cycles(edges() | {("service.reply", "service.app")})


def test_no_room_is_crowded() -> None:
    counts, lines = Counter[str](), Counter[str]()
    for module, source in SOURCES.items():
        folder = module.rpartition(".")[0]
        counts[folder] += source.name != "__init__.py"
        lines[folder] += len(source.read_bytes().splitlines())

    assert {room: count for room, count in counts.items() if count > MAX_MODULES} == {}
    assert {room for room, count in lines.items() if count > MAX_SHARE * lines.total()} == set()
    assert lines.total() > 5_000


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_no_library_that_is_not_its_business(package: str) -> None:
    found = {name for module, source in SOURCES.items() if module.split(".")[0] == package for name in imports(source)}

    assert found & FORBIDDEN[package] == set()
    assert len(found) > 5  # else this has read nothing


def calls(source: Path, *names: str) -> Iterator[str]:
    """Which of these methods a file calls, of whatever object."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
            yield node.func.attr


def test_nothing_is_published_or_deployed_but_where_it_is_proved_before() -> None:
    found = [
        (source.name, name)
        for module, source in SOURCES.items()
        if not module.startswith("worker.")  # it knows no versions
        for name in calls(source, "publish", "swap_pointer", "deploy")
    ]

    assert sorted(found) == [
        ("publish.py", "publish"),  # `publish` proves before
        ("recalibrating.py", "publish"),  # `recalibrate` proves before
        ("rollout.py", "swap_pointer"),  # `roll_out` proves before
        ("rollout.py", "swap_pointer"),  # `_take_back`: what was deployed before is deployed again
        ("store.py", "swap_pointer"),  # `Store.deploy`, which nobody calls but tests and benchmarks
    ]


WALL_CLOCK: Final = {
    "handler.py": "predicted_at, a statement",
    "app.py": "hands the clock of the two others on",
    "connection.py": "the Date of an answer",
    "exposition.py": "the age of a version, a statement",
    "guard.py": "a key expires at a time of the wall clock",
    "api_keys.py": "when a key is made, revoked, or expires",
    "keys.py": "which keys have expired",
    "logs.py": "when a request was answered, a statement",
    "sink.py": "when lines were dropped, a statement",
    "clock.py": "compares it with a monotonic one, to see whether it can be believed",
    "rows.py": "a sale in the future is not a sale",
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
    found = {source.name for source in (*SOURCES.values(), ROOT / "gunicorn.conf.py") if reads_wall_clock(source)}

    assert found <= set(WALL_CLOCK)
    assert "handler.py" in found  # else this has read nothing


def test_every_package_has_its_rule() -> None:
    assert {path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")} == set(PACKAGES) == set(FORBIDDEN)


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

    run_fresh("import service.app, worker.gunicorn_worker, cli", tmp_path, wrong)

    assert list(tmp_path.iterdir()) == []
