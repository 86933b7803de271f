"""A champion with the level and the intervals of recent sales: the same graph, another calibration."""

import re
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli import main
from cli.training import NOT_BETTER
from pricing.artifacts.store import Artifact, Store
from pricing.inference.predictor import load
from service.deployment.loaded_models import ServedModel
from tests.column_sales import TAUGHT, columns, write
from train.errors import DataError
from train.models.encoding import inputs_of
from train.models.training import Plan, train
from train.promotion.recalibrating import recalibrated
from train.sales import rows as data
from train.sales.rows import Reading, Sales

FIRST = date(2022, 1, 1)
LEARNED = 1_500


def file(folder: Path, rows: int, seed: int, begin: int, factor: float = 1.0) -> Path:
    """Sales of one day each from a day on, whose prices are so many times those of the market."""
    cells = columns(rows, seed)
    cells["sold_on"] = [FIRST + timedelta(days=begin + number * 300 // rows) for number in range(rows)]
    cells["price"] = [price * factor for price in cells["price"]]  # type: ignore[operator]
    return write(folder / f"sales-{seed}-{begin}-{factor}.csv", cells)


def sales(path: Path) -> Sales:
    return data.read(path, reading=Reading(others=None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sales")


@pytest.fixture(scope="module")
def champion(folder: Path) -> Artifact:
    plan = Plan("v1.0.0", "0", 0, "gradient-boosting", TAUGHT)
    return train(sales(file(folder, LEARNED, 0, 0)), plan, lambda _: None)


@pytest.fixture(scope="module")
def risen(champion: Artifact, folder: Path) -> Artifact:
    return recalibrated(champion, sales(file(folder, 1_200, 1, 301, 1.3)), "v1.0.1")


def test_the_graph_is_the_same_and_the_level_is_that_of_the_recent_sales(champion: Artifact, risen: Artifact) -> None:
    manifest = risen.manifest
    assert risen.graph == champion.graph
    assert manifest.examples == champion.manifest.examples
    assert len(manifest.background) == 16
    assert manifest.background == champion.manifest.background
    assert manifest.calibration.shift == pytest.approx(np.log(1.3), abs=0.04)
    found = manifest.recalibrated
    assert found is not None
    assert (found.parent, found.against, found.rows) == ("v1.0.0", (), 1_200)
    assert found.bias_before == pytest.approx(np.log(1.3), abs=0.04)
    assert abs(found.bias_after) < 0.02
    assert manifest.readable_from == 2  # an earlier release would leave out the shift


def test_prices_and_intervals_hold_for_what_is_known(risen: Artifact, folder: Path) -> None:
    later = sales(file(folder, 3_000, 2, 601, 1.3))
    for unknown in ((), ("zip_code",), ("latitude", "zip_code", "heating")):
        left = {name: cells for name, cells in later.others.values.items() if name not in unknown}
        inputs = inputs_of(later.houses, later.others._replace(values=left), risen.manifest.columns)
        price, lower, upper = load(risen).predict(inputs, 0.9).columns()
        assert np.median(price / later.prices) == pytest.approx(1, abs=0.03)
        assert np.mean((lower <= later.prices) & (later.prices <= upper)) == pytest.approx(0.9, abs=0.03)
        one = load(risen).predict(inputs[:1], 0.9)
        assert (one.price[0], one.lower[0], one.upper[0]) == (price[0], lower[0], upper[0])


def test_an_answer_is_valued_as_of_the_recent_sales(champion: Artifact, risen: Artifact) -> None:
    assert ServedModel.of("0" * 64, champion.manifest, load(champion)).valued_as_of == "2022-10-27"
    assert ServedModel.of("1" * 64, risen.manifest, load(risen)).valued_as_of == "2023-08-24"


def test_where_nothing_has_changed_it_is_not_better(champion: Artifact, folder: Path) -> None:
    found = recalibrated(champion, sales(file(folder, 300, 3, 301)), "v1.0.1")
    assert found.manifest.calibration.shift == 0
    assert found.manifest.recalibrated is not None
    (sentence,) = found.manifest.recalibrated.against
    assert sentence.startswith("bias and coverage of the champion are off by ")


def test_sales_that_the_graph_has_learned_from_do_not_count(champion: Artifact, folder: Path) -> None:
    both = columns(LEARNED)
    both["sold_on"] = [FIRST + timedelta(days=number * 300 // LEARNED) for number in range(LEARNED)]
    both["sold_on"][-199:] = [FIRST + timedelta(days=400)] * 199
    few = sales(write(folder / "few.csv", both))
    with pytest.raises(DataError, match=r": 199 sales that v1\.0\.0 has not learned from \(after 2022-10-27, .* 200"):
        recalibrated(champion, few, "v1.0.1")


@pytest.mark.parametrize("factor", [0.001, 0.4, 2.5, 1_000])
def test_prices_of_another_unit_move_no_level(champion: Artifact, folder: Path, factor: float) -> None:
    other = sales(file(folder, 400, 5, 301, factor))
    message = r"the median price is (.+) times the prediction of v1\.0\.0, expected 0\.5 to 2 times: check the unit"
    with pytest.raises(DataError, match=message) as refusal:
        recalibrated(champion, other, "v1.0.1")
    found = re.search(message, str(refusal.value))
    assert found is not None
    assert float(found[1]) == pytest.approx(factor, rel=0.05)


def test_without_dates_only_test_houses_count(knowing: Artifact, folder: Path) -> None:
    cells = columns()
    cells["price"] = [price * 1.3 for price in cells["price"]]  # type: ignore[operator]
    found = recalibrated(knowing, sales(write(folder / "undated.csv", cells)), "v2.0.1")
    assert found.manifest.recalibrated is not None
    assert found.manifest.recalibrated.rows == knowing.manifest.data.test
    assert found.manifest.recalibrated.against == ()
    assert found.manifest.valued_as_of is None


def test_the_command_publishes_a_patch_and_deploys_it_only_if_it_is_better(
    champion: Artifact, folder: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "artifacts")
    store.publish(champion)
    store.deploy("v1.0.0")
    places = ["--artifacts", str(store.root), "--run", str(tmp_path / "run"), "--journal", str(tmp_path / "journal")]

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [*places, "recalibrate", *map(str, arguments)])

    risen, same, few = file(folder, 1_200, 1, 301, 1.3), file(folder, 1_200, 3, 301), file(folder, 100, 4, 301)
    waiting = run("--data", risen)
    assert waiting.exit_code == 0, waiting.output
    assert waiting.stdout.endswith("verdict: v1.0.1 is better\nnot deployed: `appraiser promote v1.0.1` does it\n")
    assert store.deployment().champion == "v1.0.0"

    deployed = run("--data", risen, "--deploy")
    assert "v1.0.2 is deployed as generation 2" in deployed.stdout, deployed.output
    assert store.deployment().champion == "v1.0.2"
    assert CliRunner().invoke(main, [*places, "verify", "v1.0.2"]).exit_code == 0

    back = run("--data", same, "--deploy")  # the market has fallen again
    assert store.deployment().champion == "v1.0.3", back.output
    manifest = store.read("v1.0.3").manifest
    assert abs(manifest.calibration.shift) < 0.05
    assert manifest.recalibrated is not None
    assert manifest.recalibrated.parent == "v1.0.2"

    unchanged = run("--data", same, "--deploy")
    assert (unchanged.exit_code, store.deployment().champion) == (NOT_BETTER, "v1.0.3")
    refused = run("--data", few)
    assert refused.exit_code == 1
    assert "100 sales that v1.0.3 has not learned from" in refused.stderr
    assert store.versions()[-1] == "v1.0.4"
