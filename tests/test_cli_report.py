"""`report`, `--audit` and `replay --sample`, as a person types them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from cli import main
from cli.training import NOT_BETTER
from pricing.artifacts.store import MANIFEST_FILE, REPORT_FILE, Artifact, Store
from pricing.house import to_matrix
from pricing.ids import Ids
from pricing.inference.predictor import load
from pricing.journal.journal import Context, Journal, Record, Source, read
from pricing.journal.replay import draw
from report.page import report_of
from tests.column_sales import columns, write

Run = Callable[..., Result]
GRADIENT: Final = ("--family", "gradient-boosting")
RECORDED: Final = 50


def run_in(root: Path) -> Run:
    places = ["--artifacts", str(root / "artifacts"), "--run", str(root / "run"), "--journal", str(root / "journal")]
    return lambda *arguments: CliRunner().invoke(main, [*places, *map(str, arguments)])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_in(tmp_path)


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    cells = columns()
    cells["group"] = [("a", "b", "c")[place % 3] for place in range(1_500)]
    cells["heating_bill"] = [len(str(cell)) for cell in cells["heating"]]
    return write(tmp_path / "sales.csv", cells)


def test_an_audited_column_is_studied_and_never_learned_from(run: Run, sales: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "artifacts")
    trained = run("train", "--data", sales, "--columns", "all", "--audit", "zip_code", "--audit", "group", *GRADIENT)
    assert trained.exit_code in {0, 3}, trained.output
    first = store.read("v1.0.0").manifest
    assert first.evidence is not None
    assert "zip_code" not in {column.name for column in first.columns}
    assert [audit.column for audit in first.evidence.audits] == ["zip_code", "group"]
    assert store.read_beside("v1.0.0", REPORT_FILE) == report_of(first)

    again = run("retrain", "--data", sales, "--audit", "heating", *GRADIENT)
    assert again.exit_code in {0, 3, NOT_BETTER}, again.output
    second = store.read("v1.1.0").manifest
    assert second.evidence is not None
    assert second.evidence.judged is not None
    assert {column.name for column in second.columns} == {column.name for column in first.columns} - {"heating"}
    assert [audit.column for audit in second.evidence.audits] == ["heating"]
    assert second.evidence.judged.champion == "v1.0.0"
    assert second.evidence.judged.champion_mape == pytest.approx(first.metrics.test.mape)
    assert second.evidence.judged.mape == pytest.approx(second.metrics.test.mape)
    assert store.read_beside("v1.1.0", REPORT_FILE) == report_of(second)

    newer = run("recalibrate", "--data", sales)
    assert newer.exit_code in {0, NOT_BETTER}, newer.output
    (patch,) = set(store.versions()) - {"v1.0.0", "v1.1.0"}
    assert store.read_beside(patch, REPORT_FILE) == report_of(store.read(patch).manifest)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--columns", "heating", "--audit", "heating"], "--audit and --columns both name heating: a version never "),
        (["--audit", "garden"], "sales.csv: missing column garden; name columns of the file with --audit"),
        (["--audit", "price"], "--audit: price is a field of the contract"),
    ],
)
def test_an_audit_that_cannot_be_ends_in_one_sentence(
    run: Run, sales: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = run("train", "--data", sales, *options)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert Store(tmp_path / "artifacts").versions() == []


def test_an_audit_needs_a_file(run: Run) -> None:
    assert run("train", "--audit", "group").stderr == (
        "Error: --audit needs --data: the synthetic market has the five fields only\n"
    )


def test_the_report_is_written_again_and_compared_with_the_published_one(
    run: Run, store: Store, published: Artifact, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    without = run("report", "v1.0.0", "--html", path)
    page = report_of(published.manifest)
    assert path.read_bytes() == page
    expected = f"{path}: the report of v1.0.0; "
    assert (without.exit_code, without.stdout) == (0, f"{expected}v1.0.0 was published without a report\n")

    (store.root / "v1.0.0" / REPORT_FILE).write_bytes(page)
    assert run("report", "v1.0.0", "--html", path).stdout == f"{expected}the published report is the same\n"

    (store.root / "v1.0.0" / REPORT_FILE).write_bytes(page.replace(b"Report", b"report", 1))
    assert "the published report differs: another release has written it, or it was changed" in (
        run("report", "v1.0.0", "--html", path).stdout
    )


def test_without_a_name_the_file_has_that_of_the_version(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.versions() == ["v1.0.0"]
    monkeypatch.chdir(tmp_path)

    assert run("report", "v1.0.0").exit_code == 0
    assert (tmp_path / "report-v1.0.0.html").exists()


def test_the_figures_are_printed_as_json(run: Run, store: Store, published: Artifact, tmp_path: Path) -> None:
    assert store.versions() == ["v1.0.0"]
    found = run("report", "v1.0.0", "--json")
    both = run("report", "v1.0.0", "--json", "--html", tmp_path / "page.html")

    assert json.loads(found.stdout)["metrics"]["test"]["mape"] == published.manifest.metrics.test.mape
    assert both.stdout == found.stdout
    assert "the report of v1.0.0" in both.stderr
    assert list(tmp_path.glob("*.html")) == [tmp_path / "page.html"]


def test_the_report_of_a_damaged_version_is_refused(run: Run, store: Store) -> None:
    manifest = store.root / "v1.0.0" / MANIFEST_FILE
    manifest.write_bytes(manifest.read_bytes().replace(b'"seed": 0', b'"seed": 1'))

    assert run("report", "v1.0.0").stderr.startswith("Error: observed sha256 ")
    assert run("report", "v9.9.9").stderr.startswith("Error: v9.9.9 was not found; published: v1.0.0")


@pytest.fixture
def journal(store: Store, published: Artifact, tmp_path: Path) -> Path:
    """A journal of predictions of v1.0.0, as it would answer."""
    predictor, seal = load(published), hashlib.sha256(published.manifest.to_bytes()).hexdigest()
    writer = Journal(tmp_path / "journal", "host-1", 0, 1 << 20, keep_days=1)
    ids = Ids()
    for number in range(RECORDED):
        house = {"square_feet": 900.0 + 40 * number, "bedrooms": 3.0, "bathrooms": 2.0, "age_years": 10.0}
        house["distance_to_city"] = 5.0
        price, lower, upper, level = predictor.predict(to_matrix([house]), 0.9)[:4]
        source = Source(1, "v1.0.0", "champion", seal, level, cache_hit=False)
        context = Context(source, "2026-11-24T08:22:39.747+00:00", "abc-1", None)
        assert writer.append(context, [(ids.one(), house, price[0], lower[0], upper[0])])
    writer.close()
    assert store.seal("v1.0.0") == seal
    return tmp_path / "journal"


def test_a_sample_of_recorded_predictions_is_priced_again(run: Run, journal: Path) -> None:
    assert list(journal.glob("*.jsonl"))

    found = run("replay", "--sample", "20", "--seed", "1")
    every = run("replay", "--sample", "1000")

    assert (found.exit_code, found.stdout) == (
        0,
        "20 of 50 recorded predictions, drawn by seed 1: all answer as they did, 20 to the last bit\n",
    )
    assert every.stdout.startswith("50 of 50 recorded predictions, drawn by seed 0: all answer as they did, 50 ")


def test_one_changed_prediction_of_the_sample_is_found(run: Run, journal: Path) -> None:
    (segment,) = journal.glob("*.jsonl")
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b'"square_feet":900.0', b'"square_feet":2900.0', 1))
    assert segment.read_bytes() != content

    found = run("replay", "--sample", "50")

    assert found.exit_code == 1
    assert found.stderr.startswith(
        "Error: 50 of 50 recorded predictions, drawn by seed 0: 1 do not answer as they did\n"
    )
    assert "predicted_price: recorded " in found.stderr


def test_a_version_that_was_removed_cannot_be_replayed(run: Run, journal: Path, store: Store) -> None:
    assert list(journal.glob("*.jsonl"))
    (store.root / "v1.0.0" / "model.onnx").unlink()

    found = run("replay", "--sample", "30")

    assert found.exit_code == 1
    assert "30 do not answer as they did\n" in found.stderr
    assert found.stderr.endswith("and 10 more\n")


def test_the_sample_depends_on_the_seed_and_not_on_the_order(journal: Path) -> None:
    records = list(read(journal))

    def names(seed: int, found: list[Record]) -> list[str]:
        return [record.prediction_id for record in draw(found, 10, seed).records]

    assert names(1, records) == names(1, records[::-1])
    assert names(1, records) != names(2, records)
    assert draw(records, 10, 1).recorded == RECORDED
    assert len(set(names(3, records))) == 10


@pytest.mark.parametrize("arguments", [[], ["018cc4d1-5e00-7b3a-9f1c-4a7be93d0c55", "--sample", "3"]])
def test_a_replay_is_of_one_prediction_or_of_a_sample(run: Run, arguments: list[str]) -> None:
    found = run("replay", *arguments)

    assert found.exit_code == 2
    assert "expected either PREDICTION_ID or --sample NUMBER" in found.stderr


def test_a_sample_of_nothing_is_refused(run: Run, tmp_path: Path) -> None:
    found = run("replay", "--sample", "3")

    assert (found.exit_code, found.stderr) == (1, f"Error: {tmp_path / 'journal'} holds no predictions\n")
