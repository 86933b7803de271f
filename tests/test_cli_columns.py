"""`train`, `retrain` and `study` with further columns, as a person types them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from cli.training import NOT_BETTER
from pricing.artifacts.store import Store
from tests.column_sales import ROWS, columns, write

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


@pytest.fixture
def run(store: Store) -> Run:
    places = ["--artifacts", str(store.root), "--run", str(store.root.with_name("run"))]
    places += ["--journal", str(store.root.with_name("journal"))]
    return lambda *arguments: CliRunner().invoke(main, [*places, *map(str, arguments)])


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    cells = columns()
    cells["sale_id"] = list(range(ROWS))
    cells["dollars_a_foot"] = [p / f for p, f in zip(cells["price"], cells["square_feet"], strict=True)]  # type: ignore[operator]
    return write(tmp_path / "sales.csv", cells)


def known(store: Store, version: str) -> list[str]:
    return [column.name for column in store.read(version).manifest.columns]


def test_a_champion_with_columns_meets_challengers_with_others_on_the_same_rows(
    run: Run, store: Store, sales: Path, tmp_path: Path
) -> None:
    family = ("--family", "gradient-boosting")
    trained = run("train", "--data", sales, "--columns", "all", *family)
    assert trained.exit_code == 0, trained.output
    assert known(store, "v1.0.0") == ["latitude", "zip_code", "heating"]
    assert "left out: sale_id is an identifier" in trained.stdout
    assert "left out: dollars_a_foot leaks the price" in trained.stdout

    plain, as_json = (run("study", "v1.0.0", "--data", sales, "--by", "heating", *more) for more in ((), ("--json",)))
    assert plain.exit_code == as_json.exit_code == 0, plain.output
    assert "ratio study of 1,500 sales" in plain.stdout
    told = json.loads(as_json.stdout)
    assert [found["group"] for found in told["by"]["heating"]] == ["(unknown)", "gas", "heat pump", "oil"]
    assert sum(found["rows"] for found in told["by"]["heating"]) == told["rows"] == told["study"][0]["rows"] == 1_500
    kept = store.read("v1.0.0").manifest.metrics.study
    assert [found.group for found in kept] == [found["group"] for found in told["study"]]
    assert kept[0].cod.lower is not None
    missing = run("study", "v1.0.0", "--data", sales, "--by", "garden")
    assert (missing.exit_code, missing.stderr) == (
        1,
        "Error: sales.csv: missing column garden; --by names a column of the file\n",
    )

    same = run("retrain", "--data", sales, *family)  # by default, with the columns of the champion
    assert same.exit_code == NOT_BETTER, same.output
    assert known(store, "v1.1.0") == ["latitude", "zip_code", "heating"]

    five = run("retrain", "--data", sales, *family, "--columns", "none")
    assert five.exit_code == NOT_BETTER
    assert known(store, "v1.2.0") == []
    assert "gain -" in five.stdout

    store.deploy("v1.2.0")
    file = tmp_path / "columns.toml"
    file.write_text('[heating]\n[latitude]\n[zip_code]\nkind = "category"\nunit = "code"\n')
    better = run("retrain", "--data", sales, *family, "--columns-file", file)
    assert better.exit_code != NOT_BETTER, better.output
    assert known(store, "v1.3.0") == ["heating", "latitude", "zip_code"]
    assert store.deployment().champion == "v1.3.0"
    assert run("verify", "v1.3.0").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--columns", "dollars_a_foot"], "column dollars_a_foot leaks the price"),
        (["--columns", "sale_id"], "column sale_id is an identifier"),
        (["--columns", "bedrooms"], "bedrooms is a field of the contract"),
        (["--columns", ",".join(f"c{number}" for number in range(61))], "61 columns are named, at most 60"),
        (["--columns", "garden"], "missing column garden"),
        (["--columns", "heating:number"], "column heating is not a number everywhere"),
        (["--columns-file", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_columns_that_cannot_be_end_in_one_sentence_and_nothing_is_written(
    run: Run, store: Store, sales: Path, options: list[str], message: str
) -> None:
    result = run("train", "--data", sales, *options)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert store.versions() == []
    assert not store.root.exists() or not list(store.root.glob("v*"))


def test_1_001_categories_end_in_one_sentence(run: Run, store: Store, tmp_path: Path) -> None:
    cells = columns(2_002)
    cells["street"] = [f"street {number % 1_001}" for number in range(2_002)]
    result = run("train", "--data", write(tmp_path / "many.csv", cells), "--columns", "street")
    assert result.exit_code == 1
    assert result.stderr == "Error: many.csv: column street has 1,001 categories, at most 1,000 are possible\n"
    assert store.versions() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "x.csv", "--columns", "all", "--columns-file", "x.toml"], "cannot be used together"),
        (["--columns", "all"], "--columns needs --data"),
    ],
)
def test_columns_that_make_no_sense_are_refused(run: Run, options: list[str], message: str) -> None:
    result = run("train", *options)
    assert result.exit_code != 0
    assert message in result.stderr
