"""One whole training on a small synthetic market, and what its manifest says about it."""

import hashlib
import platform
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import metadata
from typing import NamedTuple

import numpy as np
import pytest

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact
from pricing.house import BOUNDS, FEATURES, UNITS, Column, Matrix, decimal
from pricing.inference.predictor import OnnxGraph, Predictor, check_examples, load
from train.errors import DataError
from train.models.convert import OPSET, OPSET_ML
from train.models.evaluate import calibrate, fifths, intervals, score
from train.models.families import FAMILIES, Fold, fit, out_of_fold, spread_estimator
from train.models.family_names import FamilyName
from train.models.learning import TOLERATED, OutOfFold, Rows, choose, learn, time_weights
from train.models.training import Plan, train
from train.sales import market
from train.sales import rows as data
from train.sales.rows import Sales
from train.sales.split import SplitMasks, folds, positions, sides, split_by_house, weights

ROWS = 1_500
PLAN = Plan("v1.0.0", "0", 0, None)


class Trained(NamedTuple):
    sales: Sales
    artifact: Artifact
    told: list[str]
    started: datetime

    @property
    def manifest(self) -> Manifest:
        return self.artifact.manifest

    @property
    def side(self) -> SplitMasks:
        return sides(positions(self.sales.houses, self.manifest.split), self.manifest.split)

    def rows(self, mask: np.ndarray) -> tuple[Matrix, Column]:
        return self.sales.houses[mask], self.sales.prices[mask]


@pytest.fixture(scope="module")
def trained() -> Trained:
    sales, told, started = data.synthetic(seed=0, rows=ROWS), list[str](), datetime.now(UTC)
    return Trained(sales, train(sales, PLAN, told.append), told, started)


def some(rows: int, **columns: Column) -> Sales:
    """Synthetic sales with some columns of their own."""
    found = market.synthetic_sales(rows, seed=0) | columns
    return data.accept(found, "sales.csv", synthetic=False, first_line=2)


def quietly(_: str) -> None:
    pass


class TestTheManifest:
    def test_says_what_it_was_made_from(self, trained: Trained) -> None:
        found, side = trained.manifest.data, trained.side
        assert (found.rows, found.refused, found.sha256) == (ROWS, 0, trained.sales.sha256)
        assert (found.fit, found.calibrate, found.test) == tuple(int(mask.sum()) for mask in side)
        assert found.fit + found.calibrate + found.test == ROWS

    def test_says_that_a_synthetic_market_is_synthetic(self, trained: Trained) -> None:
        assert trained.manifest.data.synthetic
        assert trained.manifest.data.source == "synthetic market (made up, not real sales)"
        assert b'"synthetic": true' in trained.manifest.to_bytes()

    def test_says_that_a_file_is_not(self) -> None:
        found = train(some(ROWS), PLAN._replace(family="gradient-boosting"), quietly).manifest.data
        assert (found.source, found.synthetic) == ("sales.csv", False)

    def test_says_when_and_how_it_was_made(self, trained: Trained) -> None:
        manifest = trained.manifest
        assert trained.started <= manifest.created_at <= datetime.now(UTC)
        assert (manifest.version, manifest.seed, manifest.split.salt) == ("v1.0.0", 0, "0")
        assert (manifest.split.calibrate, manifest.split.test) == (0, 0.2)
        assert manifest.parameters["price"]["random_state"] == manifest.parameters["spread"]["random_state"] == 0
        assert manifest.parameters["spread"]["estimator"] == "HistGradientBoostingRegressor"

    def test_has_the_contract_and_the_ranges_of_the_fit_rows(self, trained: Trained) -> None:
        houses, _ = trained.rows(trained.side.fit)
        assert tuple(feature.name for feature in trained.manifest.features) == FEATURES
        for feature, column in zip(trained.manifest.features, houses.T, strict=True):
            bounds = BOUNDS[feature.name]
            assert feature.unit == UNITS[feature.name]
            assert (feature.above, feature.minimum, feature.maximum) == (bounds.above, bounds.minimum, bounds.maximum)
            assert (feature.trained_from, feature.trained_to) == (decimal(column.min()), decimal(column.max()))
            assert (feature.bins[0], feature.bins[-1]) == (feature.trained_from, feature.trained_to)
            assert set(feature.bins) <= set(map(decimal, column))
            assert list(feature.bins) == sorted(set(feature.bins))

    def test_bins_are_tenths(self) -> None:
        sales = some(2_000, square_feet=np.arange(1.0, 2_001))
        bins = train(sales, PLAN._replace(family="gradient-boosting"), quietly).manifest.features[0].bins
        assert len(bins) == 11
        assert list(bins) == pytest.approx([1, *range(200, 2_001, 200)], abs=60)  # of the 60 % that are fit rows

    def test_has_the_libraries(self, trained: Trained) -> None:
        names = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")
        assert trained.manifest.libraries == {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in names},
        }

    def test_describes_the_graph(self, trained: Trained) -> None:
        found, graph = trained.manifest.graph, trained.artifact.graph
        assert (found.size, found.sha256) == (len(graph), hashlib.sha256(graph).hexdigest())
        assert (found.opset, found.opset_ml) == (OPSET, OPSET_ML)

    def test_examples_are_test_rows_and_their_exact_answers(self, trained: Trained) -> None:
        houses, _ = trained.rows(trained.side.test)
        assert [list(example.features) for example in trained.manifest.examples] == houses[:5].tolist()
        check_examples(OnnxGraph(trained.artifact.graph), trained.manifest.examples)

    def test_the_calibration_is_that_of_prices_and_spreads_out_of_fold(self, trained: Trained) -> None:
        houses, prices = trained.rows(trained.side.fit)
        position = positions(houses, trained.manifest.split)
        mean, fold = np.log(prices).mean(), folds(position)
        target = np.log(prices) - mean
        family: FamilyName = trained.manifest.family  # type: ignore[assignment]  # one of them
        deviation = out_of_fold(FAMILIES[family], 0, houses, target, fold)
        errors = np.abs(deviation - target)
        spread = np.maximum(out_of_fold(spread_estimator, 0, houses, errors, fold), np.quantile(errors, 0.25) / 2)
        assert trained.manifest.calibration == calibrate(mean + deviation, spread, prices, position)
        assert trained.manifest.calibration.rows == trained.manifest.data.fit

    def test_metrics_are_measured_through_the_version_that_ships(self, trained: Trained) -> None:
        predictor: Predictor = load(trained.artifact)
        test = trained.rows(trained.side.test)
        vote = weights(positions(test[0], trained.manifest.split))
        metrics = trained.manifest.metrics
        assert metrics.train == score(predictor, *trained.rows(trained.side.fit))
        assert metrics.test == score(predictor, *test)
        assert metrics.intervals == intervals(predictor, *test, vote)
        assert metrics.fifths == fifths(predictor, *test, vote)
        assert metrics.train.rows == trained.manifest.data.fit
        assert metrics.test.rows == trained.manifest.data.test == sum(fifth.rows for fifth in metrics.fifths)

    def test_has_the_certificate(self, trained: Trained) -> None:
        parity = trained.manifest.parity
        assert (parity.limit_ppm, parity.test_rows) == (5, trained.manifest.data.test)
        assert max(parity.test_ppm, parity.threshold_ppm) <= 5
        assert parity.threshold_rows > 1_000

    def test_the_graph_is_small(self, trained: Trained) -> None:
        assert trained.manifest.graph.size < 2_000_000


class TestDeterminism:
    def test_the_same_data_and_seed_make_the_same_version(self, trained: Trained) -> None:
        manifest, graph, _ = train(data.synthetic(seed=0, rows=ROWS), PLAN, quietly)
        assert graph == trained.artifact.graph
        assert manifest.model_copy(update={"created_at": trained.manifest.created_at}) == trained.manifest

    def test_another_salt_makes_another_split(self, trained: Trained) -> None:
        manifest = train(trained.sales, PLAN._replace(salt="1", family="gradient-boosting"), quietly).manifest
        assert manifest.split.salt == "1"
        assert manifest.examples[0].features != trained.manifest.examples[0].features


class TestTooLittle:
    def test_too_few_rows_stop_before_anything_is_fitted(self) -> None:
        told: list[str] = []
        with pytest.raises(DataError) as refused:
            train(some(500), PLAN, told.append)
        assert str(refused.value) == (
            "sales.csv: 500 accepted rows leave 116 houses for testing, at least 200 are needed: "
            "bring sales of 1,200 houses"
        )
        assert told == []

    @pytest.mark.parametrize("different", [1, 3, 10])
    def test_a_few_houses_again_and_again_are_refused(self, different: int) -> None:
        sales = some(different)
        many = replace(sales, houses=np.tile(sales.houses, (3_000, 1)), prices=np.tile(sales.prices, 3_000))
        with pytest.raises(DataError, match=r"^sales\.csv: [\d,]+ accepted rows are only \d+ different houses"):
            train(many, PLAN, quietly)

    def test_199_different_houses_are_told(self) -> None:
        sales = some(199)
        many = replace(sales, houses=np.tile(sales.houses, (10, 1)), prices=np.tile(sales.prices, 10))
        with pytest.raises(DataError) as refused:
            train(many, PLAN, quietly)
        assert str(refused.value) == (
            f"sales.csv: 1,990 accepted rows are only {len(np.unique(sales.houses, axis=0))} different houses "
            "(by square_feet, bedrooms, bathrooms, distance_to_city), at least 200 are needed"
        )

    def test_a_house_that_is_sold_again_and_again_is_one_for_testing(self) -> None:
        sales = some(900)
        many = replace(sales, houses=np.tile(sales.houses, (3, 1)), prices=np.tile(sales.prices, 3))
        with pytest.raises(DataError, match=r"accepted rows leave 1\d\d houses for testing, at least 200 are needed"):
            train(many, PLAN, quietly)


class TestTheFamily:
    def test_is_the_one_with_the_lower_cross_validated_error(self, trained: Trained) -> None:
        houses, prices = trained.rows(trained.side.fit)
        target = np.log(prices) - np.log(prices).mean()
        fold = folds(positions(houses, split_by_house("0")))
        mape = {
            family: np.mean(np.abs(np.expm1(out_of_fold(make, 0, houses, target, fold) - target)))
            for family, make in FAMILIES.items()
        }
        assert trained.manifest.family == min(mape, key=lambda family: mape[family])
        assert trained.told == [
            f"cross-validating gradient-boosting on {len(target):,} rows",
            f"cross-validated gradient-boosting: mean absolute percentage error {mape['gradient-boosting']:.2%}",
            f"cross-validating random-forest on {len(target):,} rows",
            f"cross-validated random-forest: mean absolute percentage error {mape['random-forest']:.2%}",
            f"fitting {trained.manifest.family} on {len(target):,} rows",
            "converting to ONNX",
            "certifying parity of ONNX with scikit-learn",
            "measuring on the test rows",
        ]

    @pytest.mark.parametrize(
        ("number", "better"),
        # boosting wants 40 rows a leaf and of 80 sales it learns only their mean; a forest is content with 5
        [(800, "gradient-boosting"), (80, "random-forest")],
    )
    def test_may_be_either(self, number: int, better: FamilyName) -> None:
        houses = np.random.default_rng(0).random((number, 5), dtype=np.float32)
        rows = Rows(houses, np.exp(12 + houses.sum(axis=1, dtype=np.float64)), positions(houses, split_by_house("0")))
        assert choose(rows, None, 0, quietly).family == better

    @pytest.mark.parametrize("family", FAMILIES)
    def test_can_be_named(self, family: FamilyName) -> None:
        told: list[str] = []
        manifest = train(data.synthetic(seed=0, rows=ROWS), PLAN._replace(family=family), told.append).manifest
        assert manifest.family == family
        assert manifest.parameters["price"]["estimator"] == type(FAMILIES[family](0)).__name__
        assert sum(step.startswith("cross-validating") for step in told) == 1

    def test_a_forest_predicts_with_one_job_since_more_are_not_repeatable_to_the_last_bit(self) -> None:
        sales = data.synthetic(seed=0, rows=100)
        assert fit(FAMILIES["random-forest"](0), sales.houses, sales.prices).n_jobs == 1


class Remembers:
    """An estimator that answers 1 for rows that it has seen and 0 for others."""

    def fit(self, houses: Matrix, _target: Column) -> "Remembers":
        self._seen = {row.tobytes() for row in houses}
        return self

    def predict(self, houses: Matrix) -> Column:
        return np.array([float(row.tobytes() in self._seen) for row in houses])


class TestTheSpread:
    def test_an_out_of_fold_prediction_is_by_an_estimator_that_has_not_seen_the_row_or_its_twin(self) -> None:
        houses = np.tile(data.synthetic(seed=0, rows=200).houses, (2, 1))
        fold: Fold = folds(positions(houses, split_by_house("0")))
        assert out_of_fold(lambda _: Remembers(), 0, houses, np.zeros(400), fold).tolist() == [0] * 400
        apart: Fold = np.arange(400, dtype=np.int64) // 200
        assert out_of_fold(lambda _: Remembers(), 0, houses, np.zeros(400), apart).tolist() == [1] * 400

    def test_its_floor_is_half_the_lower_quartile_of_the_errors(self) -> None:
        houses, prices = (sales := data.synthetic(seed=0, rows=400)).houses, sales.prices
        deviation = np.log(prices) - np.log(prices).mean()
        errors = np.repeat([0.1, 0.2, 0.4, 0.8], 100)
        rows = Rows(houses, prices, np.linspace(0, 1, 400))
        fitted = learn(rows, OutOfFold("gradient-boosting", deviation + errors), seed=0).fitted
        assert fitted.lowest_spread == pytest.approx(np.quantile(errors, 0.25) / 2)
        assert fitted.expected_error(houses).min() >= fitted.lowest_spread

    def test_without_errors_it_still_has_a_floor(self) -> None:
        houses, prices = (sales := data.synthetic(seed=0, rows=400)).houses, sales.prices
        deviation = np.log(prices) - np.log(prices).mean()
        rows = Rows(houses, prices, np.linspace(0, 1, 400))
        assert learn(rows, OutOfFold("gradient-boosting", deviation), seed=0).fitted.lowest_spread > 0


class TestHeldBack:
    def test_nothing_is_learned_from_rows_that_are_held_back(self) -> None:
        sales = data.synthetic(seed=0, rows=2_500)
        held = np.arange(2_500) % 10 == 0
        plan = PLAN._replace(family="gradient-boosting")
        spoiled = replace(sales, prices=np.where(held, 7 * sales.prices, sales.prices))

        honest, lied_to = (train(each, plan, quietly, held_back=held) for each in (sales, spoiled))

        assert lied_to.graph == honest.graph
        assert lied_to.manifest.calibration == honest.manifest.calibration
        side = sides(positions(sales.houses, honest.manifest.split), honest.manifest.split)
        assert honest.manifest.data.test == int((side.test | held).sum())
        assert honest.manifest.data.fit + honest.manifest.data.calibrate + honest.manifest.data.test == 2_500


class TestTime:
    def test_without_dates_every_sale_counts_alike(self) -> None:
        assert time_weights(None, np.arange(5.0)).tolist() == [1] * 5

    def test_the_newest_sales_count_for_more_as_far_as_all_of_them_keep_their_level(self) -> None:
        rng = np.random.default_rng(0)
        days = np.datetime64("2024-01-01") + np.sort(rng.integers(0, 365, 4_000))
        alike, drifting = np.abs(rng.normal(size=4_000)), np.abs(rng.normal(size=4_000))
        drifting[-600:] *= 3  # the newest 15 %: were they all that counts, no level would hold for the others

        most, few = (time_weights(days, scores) for scores in (alike, drifting))

        assert most[-1] > few[-1]
        assert set(most[:3_000]) == set(few[:3_000]) == {1.0}
        quantile = np.sort(drifting)[np.searchsorted(np.cumsum(few[np.argsort(drifting)]) / few.sum(), 0.5)]
        assert np.mean(drifting <= quantile) == pytest.approx(0.5, abs=TOLERATED + 0.001)

    def test_a_version_knows_the_first_and_the_last_sale_that_it_learned_from(self) -> None:
        sales = some(ROWS)
        days = np.datetime64("2024-01-01") + np.arange(ROWS) % 365
        manifest = train(replace(sales, sold_on=days), PLAN._replace(family="gradient-boosting"), quietly).manifest
        assert (manifest.data.first_sale, manifest.data.last_sale) == (date(2024, 1, 1), date(2024, 12, 30))
