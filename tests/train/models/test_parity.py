"""The certificate, and that it is refused to graphs that deserve none."""

import math
import re
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pricing.house import Column, Matrix, columns_to_matrix
from pricing.inference.predictor import OnnxGraph
from train.errors import ParityError
from train.models.convert import Fitted, to_onnx
from train.models.families import FAMILIES, Estimator, fit, float32_below, round_thresholds, spread_estimator
from train.models.family_names import FAMILY_NAMES, FamilyName
from train.models.parity import LIMIT_PPM, NODES_CHECKED, certify, threshold_rows, worst_ppm
from train.sales.market import synthetic_sales

MEAN, FLOOR = 13.0, 0.05
ROWS = 1_500


class Learned(NamedTuple):
    houses: Matrix
    target: Column
    spread: Estimator

    def with_price(self, estimator: Any) -> tuple[Fitted, OnnxGraph]:  # noqa: ANN401 -- also what is no Estimator
        fitted = Fitted(estimator, self.spread, MEAN, FLOOR)
        return fitted, OnnxGraph(to_onnx(fitted))


@pytest.fixture(scope="module")
def learned() -> Learned:
    """Values as fine and as large as King County's: areas to the foot, distances to the thousandth of a mile."""
    columns = synthetic_sales(ROWS, seed=0)
    rng = np.random.default_rng(0)
    columns["square_feet"] = columns["square_feet"] * 3 + rng.integers(0, 10, ROWS)
    columns["distance_to_city"] += rng.integers(0, 1_000, ROWS) / 1_000
    houses, log_price = columns_to_matrix(columns), np.log(columns["price"])
    target = log_price - log_price.mean()
    spread = fit(spread_estimator(0), houses, np.abs(target))
    round_thresholds(spread)
    return Learned(houses, target, spread)


def rerouted(graph: bytes) -> bytes:
    """The graph without the side of gaps, as the conversion leaves it where no column may be unknown."""
    model = onnx.load_model_from_string(graph)
    for node in model.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name != "nodes_missing_value_tracks_true"]
        del node.attribute[:]
        node.attribute.extend(kept)
    found: bytes = model.SerializeToString()
    return found


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_gaps_are_certified_and_a_graph_that_routes_them_otherwise_is_not(learned: Learned, family: FamilyName) -> None:
    rng = np.random.default_rng(0)
    further = rng.random((ROWS, 2)).astype(np.float32)
    target = learned.target + np.where(further[:, 0] < 0.4, -1, 1)  # an unknown value is worth something of its own
    further[rng.random((ROWS, 2)) < 0.3] = np.nan
    rows = np.concatenate([learned.houses, further], axis=1)
    price, spread = fit(FAMILIES[family](0, 2), rows, target), fit(spread_estimator(0, 2), rows, np.abs(target))
    for estimator in (price, spread):
        round_thresholds(estimator)
    fitted = Fitted(price, spread, MEAN, FLOOR)
    graph = to_onnx(fitted)

    parity = certify(fitted, OnnxGraph(graph), rows[:100], rows, seed=0)
    assert (parity.gap_rows, parity.gap_ppm <= 5) == (200, True)
    full = rows[~np.isnan(rows).any(axis=1)]
    with pytest.raises(ParityError, match=r"on (test|gap) rows ONNX differs"):
        certify(fitted, OnnxGraph(rerouted(graph)), full[:100], full, seed=0)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_each_family_is_certified(learned: Learned, family: FamilyName) -> None:
    price = fit(FAMILIES[family](0), learned.houses, learned.target)
    round_thresholds(price)
    fitted, graph = learned.with_price(price)
    parity = certify(fitted, graph, learned.houses[:100], learned.houses, seed=0)
    assert (parity.limit_ppm, parity.test_rows) == (5, 100)
    assert parity.test_ppm == worst_ppm(fitted, graph, learned.houses[:100]) <= 5
    assert 0 < parity.threshold_ppm <= 5
    assert parity.threshold_rows > 1_000


class TestNegativeControls:
    def test_a_scaler_before_float32_trees_is_refused_with_its_measure(self, learned: Learned) -> None:
        pipeline = make_pipeline(StandardScaler(), RandomForestRegressor(n_estimators=20, random_state=0))
        fitted, graph = learned.with_price(pipeline.fit(learned.houses, learned.target))
        with pytest.raises(ParityError) as refused:
            certify(fitted, graph, learned.houses, learned.houses, seed=0)
        worst = worst_ppm(fitted, graph, learned.houses)
        assert worst > 1_000  # a tenth of a percent: hundreds of dollars
        assert str(refused.value) == (
            f"parity is not certified: on test rows ONNX differs from scikit-learn by up to {worst:,.1f} parts per "
            "million, at most 5 are allowed; nothing was published"
        )

    def test_without_the_scaler_the_same_forest_is_certified(self, learned: Learned) -> None:
        forest = RandomForestRegressor(n_estimators=20, random_state=0).fit(learned.houses, learned.target)
        assert certify(*learned.with_price(forest), learned.houses, learned.houses, seed=0).test_ppm < LIMIT_PPM

    def test_thresholds_left_unrounded_pass_on_test_rows_and_are_refused_on_threshold_rows(
        self, learned: Learned
    ) -> None:
        price = fit(FAMILIES["gradient-boosting"](0), learned.houses, learned.target)
        fitted, graph = learned.with_price(price)
        assert worst_ppm(fitted, graph, learned.houses) < LIMIT_PPM
        worst = worst_ppm(fitted, graph, threshold_rows(price, learned.houses, seed=0))
        assert worst > 1_000
        with pytest.raises(
            ParityError, match=re.escape(f"on threshold rows ONNX differs from scikit-learn by up to {worst:,.1f} ")
        ):
            certify(fitted, graph, learned.houses, learned.houses, seed=0)

    def test_thresholds_of_the_spread_left_unrounded_are_refused_too(self, learned: Learned) -> None:
        price = fit(FAMILIES["gradient-boosting"](0), learned.houses, learned.target)
        round_thresholds(price)
        unrounded = learned._replace(spread=fit(spread_estimator(0), learned.houses, np.abs(learned.target)))
        with pytest.raises(ParityError, match="on threshold rows"):
            certify(*unrounded.with_price(price), learned.houses, learned.houses, seed=0)


class Off:
    """A graph whose log price is off by a summand and whose spread is off by a factor."""

    def __init__(self, graph: OnnxGraph, log_price: float = 0.0, spread: float = 1.0) -> None:
        self._graph, self._log_price, self._spread = graph, log_price, spread

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        log_price, spread = self._graph.run(houses)
        return log_price + self._log_price, spread * self._spread


class TestTheLimit:
    @pytest.fixture
    def pair(self, learned: Learned) -> tuple[Fitted, OnnxGraph]:
        price = fit(FAMILIES["gradient-boosting"](0), learned.houses, learned.target)
        round_thresholds(price)
        return learned.with_price(price)

    @pytest.mark.parametrize("ppm", [4, -4])
    def test_4_parts_per_million_are_certified(
        self, pair: tuple[Fitted, OnnxGraph], learned: Learned, ppm: float
    ) -> None:
        fitted, graph = pair
        for off in (Off(graph, log_price=ppm * 1e-6), Off(graph, spread=1 + ppm * 1e-6)):
            parity = certify(fitted, off, learned.houses, learned.houses, seed=0)
            assert 3 < parity.test_ppm < 5

    @pytest.mark.parametrize("ppm", [6, -6])
    def test_6_parts_per_million_of_price_or_spread_are_refused(
        self, pair: tuple[Fitted, OnnxGraph], learned: Learned, ppm: float
    ) -> None:
        fitted, graph = pair
        for off in (Off(graph, log_price=ppm * 1e-6), Off(graph, spread=1 + ppm * 1e-6)):
            with pytest.raises(ParityError, match=r"by up to [567]\.\d parts per million, at most 5 are allowed"):
                certify(fitted, off, learned.houses, learned.houses, seed=0)

    def test_nan_is_no_certificate(self, pair: tuple[Fitted, OnnxGraph], learned: Learned) -> None:
        fitted, graph = pair
        with pytest.raises(ParityError, match="by up to nan parts per million"):
            certify(fitted, Off(graph, log_price=math.nan), learned.houses, learned.houses, seed=0)


class Tree(NamedTuple):
    """One fitted tree, read here once more and without the code under test."""

    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    leaf: list[bool]

    def path(self, row: Matrix) -> list[int]:
        """The splits that a row meets, compared in float64 as scikit-learn does."""
        node, met = 0, []
        while not self.leaf[node]:
            met.append(node)
            goes_left = float(row[self.feature[node]]) <= self.threshold[node]
            node = self.left[node] if goes_left else self.right[node]
        return met


def trees(estimator: Estimator) -> list[Tree]:
    if isinstance(estimator, HistGradientBoostingRegressor):
        found = [tree.nodes for (tree,) in estimator._predictors]
        names = ("feature_idx", "num_threshold", "left", "right", "is_leaf")
        return [Tree(*(nodes[name].tolist() for name in names)) for nodes in found]
    members = [member.tree_ for member in estimator.estimators_]
    return [
        Tree(
            t.feature.tolist(),
            t.threshold.tolist(),
            t.children_left.tolist(),
            t.children_right.tolist(),
            (t.children_left == -1).tolist(),
        )
        for t in members
    ]


class TestThresholdRows:
    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_every_split_is_reached_one_step_below_at_and_above_its_threshold(
        self, learned: Learned, family: FamilyName
    ) -> None:
        estimator = fit(FAMILIES[family](0).set_params(min_samples_leaf=20), learned.houses, learned.target)
        if isinstance(estimator, RandomForestRegressor):
            estimator.estimators_ = estimator.estimators_[:3]
        else:
            estimator._predictors = estimator._predictors[:10]
        rows = threshold_rows(estimator, learned.houses, seed=0)
        splits = {
            (number, node)
            for number, tree in enumerate(trees(estimator))
            for node, leaf in enumerate(tree.leaf)
            if not leaf
        }
        assert rows.dtype == np.float32
        assert len(rows) == 3 * len(splits) > 100

        reached = set()
        for below, at, above in rows.reshape(-1, 3, 5):
            (feature,) = np.flatnonzero(below != at)
            assert np.flatnonzero(at != above).tolist() == [feature]
            assert below[feature] == np.nextafter(at[feature], np.float32(-np.inf))
            assert above[feature] == np.nextafter(at[feature], np.float32(np.inf))
            for number, tree in enumerate(trees(estimator)):
                for node in tree.path(at):
                    lowered = float32_below(np.array([tree.threshold[node]]))[0]
                    if tree.feature[node] == feature and lowered == at[feature] and node in tree.path(above):
                        reached.add((number, node))
        assert reached == splits

    def test_of_many_splits_ten_thousand_are_checked(self, learned: Learned) -> None:
        forest = fit(FAMILIES["random-forest"](0), learned.houses, learned.target)
        assert sum(member.tree_.node_count // 2 for member in forest.estimators_) > NODES_CHECKED == 10_000
        assert threshold_rows(forest, learned.houses, seed=0).shape == (30_000, 5)

    def test_one_seed_gives_one_set_of_rows(self, learned: Learned) -> None:
        def drawn(seed: int) -> bytes:
            return threshold_rows(learned.spread, learned.houses, seed).tobytes()

        assert drawn(0) == drawn(0) != drawn(1)

    def test_trees_without_a_split_have_no_threshold(self, learned: Learned) -> None:
        price = fit(FAMILIES["gradient-boosting"](0), learned.houses, np.zeros(ROWS))
        assert threshold_rows(price, learned.houses, seed=0).shape == (0, 5)
        spread = fit(spread_estimator(0), learned.houses, np.zeros(ROWS))
        fitted = Fitted(price, spread, MEAN, FLOOR)
        parity = certify(fitted, OnnxGraph(to_onnx(fitted)), learned.houses, learned.houses, seed=0)
        assert (parity.threshold_rows, parity.threshold_ppm) == (0, 0)


def test_an_estimator_whose_thresholds_nobody_knows_is_not_certified(learned: Learned) -> None:
    stranger = GradientBoostingRegressor(n_estimators=2).fit(learned.houses, learned.houses[:, 0])
    with pytest.raises(ParityError, match=r"where a GradientBoostingRegressor keeps its thresholds$"):
        threshold_rows(stranger, learned.houses, seed=0)
