"""What the OpenAPI document says is true: schemathesis, with all it checks and in all of its phases, finds nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from pricing.artifacts.store import Artifact
from service.settings import OUR_WORKER
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.reliability.fuzz import SEED
from tests.reliability.scrapes import Scrapes
from tests.reliability.workers import WORKERS, serve, store_of, train_version

EXAMPLES: Final = 1_000
MAX_SECONDS: Final = 900  # for what takes 90 on two idle cores
PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")


def schemathesis(server: GunicornProcess, folder: Path, *args: str) -> dict[str, Any]:
    """Run it as a user does, with the configuration of this repository; returns its report."""
    report = folder / "report.json"
    command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color"]
    command += ["--config-file", str(ROOT / "schemathesis.toml"), "run", f"{server.url}/openapi.json"]
    command += ["--seed", str(SEED), "--report-json-path", str(report), *args]
    ran = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(ROOT / "tests" / "reliability" / "schemathesis_hooks.py")},
        capture_output=True,
        text=True,
        check=False,
        timeout=MAX_SECONDS,
    )
    print(f"\n{ran.stdout}{ran.stderr}")
    found: dict[str, Any] = json.loads(report.read_bytes())
    return found


def operations(server: GunicornProcess) -> list[tuple[str, str]]:
    """Method and path of all that the document describes."""
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, item in paths.items() for method in item]


def asked(server: GunicornProcess) -> dict[tuple[str, str], int]:
    """How often each operation was asked, by the service's own count."""
    scrapes = Scrapes(server)
    return {
        (method, path): scrapes.total("appraiser_requests_total", method=method, route=path)
        for method, path in operations(server)
    }


@pytest.mark.parametrize("columns", [False, True], ids=["five fields", "further columns"])
def test_schemathesis_finds_nothing_in_1_000_examples_of_each_operation(
    knowing: Artifact, tmp_path: Path, *, columns: bool
) -> None:
    # The document's example asks for v1.0.0; of another version, most examples would be answered 404.
    renamed = knowing._replace(manifest=knowing.manifest.model_copy(update={"version": "v1.0.0"}))
    with serve(store_of(tmp_path, renamed if columns else train_version("v1.0.0", "gradient-boosting"))) as server:
        report = schemathesis(server, tmp_path)
        counts = asked(server)
    for (method, path), count in counts.items():
        print(f"{method} {path}: {count:,} requests")

    assert (report["failures"], report["errors"], report["exit_code"]) == ([], [], 0)
    assert report["complete"]
    assert report["phases"] == {phase: {"status": "success", "skip_reason": None} for phase in PHASES}
    assert report["operations"]["tested"] == len(counts)
    assert report["test_cases"]["without_checks"] == 0
    assert min(counts.values()) >= EXAMPLES


PLANTED: Final = """
from service.app import create_app

def application(environ, start_response):
    path = environ["PATH_INFO"]

    def start(status, headers, exc_info=None):
        named = dict(headers)
        match path, status[:3]:
            case "/predict", "200":
                status = "422 Unprocessable Entity"
            case "/predict/batch", "200":
                status = "500 Internal Server Error"
            case "/model/info", "422":
                status = "200 OK"
            case "/models", "200":
                status = "202 Accepted"
            case "/metrics", "200":
                named["Content-Type"] = "text/html"
            case "/metrics", "405":
                named["Allow"] = "GET, PUT"
            case "/health", "200":
                del named["X-Request-ID"]
            case "/health/live", "200":
                named["X-Request-ID"] = "not one word"
            case "/health/ready", "405":
                status = "200 OK"
        return start_response(status, list(named.items()), exc_info)

    return app(environ, start)

app = create_app()
"""


FOUND: Final = {
    ("POST /predict", "RejectedPositiveData"),
    ("POST /predict/batch", "ServerError"),
    ("GET /model/info", "AcceptedNegativeData"),
    ("GET /model/info", "JsonSchemaError"),
    ("GET /models", "UndefinedStatusCode"),
    ("GET /metrics", "UndefinedContentType"),
    ("OPTIONS /metrics", "AllowHeaderMismatch"),
    ("GET /health", "MissingHeaders"),
    ("GET /health/live", "JsonSchemaError"),
    ("TRACE /health/ready", "UnsupportedMethodResponse"),
}


def test_the_control_what_is_planted_is_found(tmp_path: Path) -> None:
    store = store_of(tmp_path, train_version("v1.0.0", "gradient-boosting"))
    (tmp_path / "planted.py").write_text(PLANTED)
    environment = {"APPRAISER_ARTIFACTS": str(store.root)}
    app = gunicorn("planted:application", cwd=tmp_path, worker_class=OUR_WORKER, workers=WORKERS, env=environment)
    with app as server:
        report = schemathesis(server, tmp_path, "--phases", "coverage", "--continue-on-failure")

    assert report["exit_code"] == 1
    assert {(operation, found["type"]) for found in report["failures"] for operation in found["operations"]} >= FOUND
