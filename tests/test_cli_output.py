"""What long commands print for scripts: with --quiet only what has changed, with --json one object."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from cli import main
from cli.context import UNCONFIRMED
from cli.training import NOT_BETTER
from pricing.artifacts.store import Store
from tests.column_sales import columns, write

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sales") / "sales.csv", columns(rows=1_500))


@pytest.fixture
def run(store: Store, sales: Path) -> Run:
    """A long command on the folder in which v1.0.0 is deployed, with a file of sales."""
    places = ["--artifacts", str(store.root), "--run", str(store.root.with_name("run"))]
    data = ["--data", str(sales)]
    return lambda command, *options: CliRunner().invoke(main, [*places, command, *data, *options])


def test_quiet_training_prints_what_is_deployed_and_nothing_else(run: Run) -> None:
    result = run("train", "--quiet", "--deploy", "--family", "gradient-boosting")
    (line,) = result.stdout.splitlines()
    assert line.startswith("v1.1.0 is deployed as generation 2, unconfirmed")


def test_training_prints_one_json_object(run: Run, store: Store) -> None:
    answer = orjson.loads(run("train", "--json", "--family", "gradient-boosting").stdout)
    metrics = store.read("v1.1.0").manifest.metrics.model_dump(mode="json", include={"test", "intervals"})
    assert answer == {"version": "v1.1.0", "deployed": False, "confirmed": False, "metrics": metrics}


def test_retraining_prints_the_verdict_as_json(run: Run, store: Store) -> None:
    result = run("retrain", "--json", "--family", "gradient-boosting")
    answer = orjson.loads(result.stdout)
    assert (answer["champion"], answer["challenger"]) == ("v1.0.0", "v1.1.0")
    assert answer["deployed"] is (store.deployment().champion == "v1.1.0")
    assert result.exit_code == (UNCONFIRMED if answer["deployed"] else NOT_BETTER)


@pytest.mark.parametrize("options", [["--deploy"], []])
def test_recalibration_prints_its_evidence_as_json(options: list[str], run: Run, store: Store) -> None:
    result, deploy = run("recalibrate", "--json", *options), bool(options)
    answer = orjson.loads(result.stdout)
    manifest = store.read("v1.0.1").manifest
    assert manifest.recalibrated is not None
    is_better = not manifest.recalibrated.against
    assert answer == {
        "version": "v1.0.1",
        "deployed": deploy and is_better,
        "confirmed": False,
        "recalibrated": manifest.recalibrated.model_dump(mode="json"),
    }
    assert result.exit_code == (NOT_BETTER if not is_better else UNCONFIRMED if deploy else 0)


def test_an_error_is_a_sentence_on_stderr_with_json_too(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    result = run("train", "--json", "--data", str(empty))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
