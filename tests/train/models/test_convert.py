"""From fitted estimators to ONNX: the same bytes each time, and nothing lost on the way."""

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pricing.house import Column, Matrix
from pricing.inference.predictor import OnnxGraph
from train.models.convert import OPSET, OPSET_ML, Fitted, to_onnx
from train.models.families import FAMILIES, Estimator, fit, float32_below, round_thresholds, spread_estimator
from train.models.family_names import FAMILY_NAMES, FamilyName
from train.models.parity import threshold_rows
from train.sales import rows as data

ROOT = Path(__file__).parents[3]
FAR = 1e30  # beyond every feature, and well inside of float32


def rows() -> tuple[Matrix, Column]:
    """Houses and the deviations of their log prices from the mean."""
    sales = data.synthetic(seed=0, rows=800)
    log_price = np.log(sales.prices)
    return sales.houses, log_price - log_price.mean()


def learned(family: FamilyName) -> Fitted:
    houses, target = rows()
    price, spread = fit(FAMILIES[family](0), houses, target), fit(spread_estimator(0), houses, np.abs(target))
    for estimator in (price, spread):
        round_thresholds(estimator)
    return Fitted(price, spread, mean_log_price=13.0, lowest_spread=0.05)


def constant(mean_log_price: float, lowest_spread: float) -> OnnxGraph:
    """A graph of trees that learned nothing but zeros."""
    houses, target = rows()
    trees = [fit(spread_estimator(0), houses, np.zeros_like(target)) for _ in range(2)]
    return OnnxGraph(to_onnx(Fitted(trees[0], trees[1], mean_log_price, lowest_spread)))


@pytest.fixture(scope="module")
def fitted() -> dict[FamilyName, Fitted]:
    return {family: learned(family) for family in FAMILY_NAMES}


class TestFloat32Below:
    @given(value=st.floats(-FAR, FAR))
    @example(value=0.0)
    @example(value=5e-324)
    @example(value=-5e-324)
    @example(value=0.1)
    def test_it_is_the_highest_float32_that_is_not_above(self, value: float) -> None:
        (below,) = float32_below(np.array([value]))
        assert below == float(np.float32(below))
        assert below <= value
        assert float(np.nextafter(np.float32(below), np.float32(math.inf))) > value

    @given(value=st.floats(-(2**100), 2**100, width=32))
    def test_a_float32_stays_what_it_is(self, value: float) -> None:
        assert float32_below(np.array([value])).tolist() == [value]

    @given(x=st.floats(width=32, allow_nan=False), threshold=st.floats(-FAR, FAR))
    def test_every_float32_is_on_the_same_side_of_it(self, x: float, threshold: float) -> None:
        assert (x <= threshold) == (x <= float32_below(np.array([threshold]))[0])


class TestRoundedThresholds:
    @pytest.mark.parametrize("make", [FAMILIES["gradient-boosting"], spread_estimator])
    def test_predictions_of_float32_rows_stay_to_the_last_bit(self, make: type[Estimator]) -> None:
        houses, target = rows()
        estimator = fit(make(0), houses, target)
        near = threshold_rows(estimator, houses, seed=0)
        before = estimator.predict(houses), estimator.predict(near)
        round_thresholds(estimator)
        assert estimator.predict(houses).tobytes() == before[0].tobytes()
        assert estimator.predict(near).tobytes() == before[1].tobytes()

    def test_every_threshold_is_a_float32_afterwards_and_was_not_before(self) -> None:
        houses, target = rows()
        estimator = fit(FAMILIES["gradient-boosting"](0), houses + np.float32(0.1), target)

        def off() -> int:
            nodes = np.concatenate([tree.nodes for (tree,) in estimator._predictors])
            thresholds = nodes["num_threshold"][nodes["is_leaf"] == 0]
            return int((thresholds != thresholds.astype(np.float32)).sum())

        assert off() > 10
        round_thresholds(estimator)
        assert off() == 0


class TestTheGraph:
    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_equal_data_and_seed_give_equal_bytes(self, fitted: dict[FamilyName, Fitted], family: FamilyName) -> None:
        assert to_onnx(learned(family)) == to_onnx(fitted[family])

    def test_another_seed_of_a_forest_gives_other_bytes(self, fitted: dict[FamilyName, Fitted]) -> None:
        another = fit(FAMILIES["random-forest"](1), *rows())
        assert to_onnx(fitted["random-forest"]._replace(price=another)) != to_onnx(fitted["random-forest"])

    def test_other_processes_with_any_number_of_threads_give_the_same_bytes(
        self, fitted: dict[FamilyName, Fitted]
    ) -> None:
        # this very file, run as a script below
        digests = {
            subprocess.run(
                [sys.executable, __file__],
                env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads, "PYTHONPATH": str(ROOT)},
                check=True,
                capture_output=True,
            ).stdout
            for threads in ("1", "2")
        }
        assert digests == {digest_lines(fitted)}

    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_it_answers_one_number_for_each_house(self, fitted: dict[FamilyName, Fitted], family: FamilyName) -> None:
        log_price, spread = OnnxGraph(to_onnx(fitted[family])).run(rows()[0][:3])
        assert (log_price.shape, spread.shape) == ((3,), (3,))
        assert log_price.dtype == spread.dtype == np.float64

    def test_the_mean_is_added_in_float64(self) -> None:
        mean = math.nextafter(13, 14)  # a float32 is a millionth away from it
        log_price, _ = constant(mean, 0.05).run(rows()[0])
        assert set(log_price.tolist()) == {mean}

    def test_the_spread_never_falls_below_its_floor(self, fitted: dict[FamilyName, Fitted]) -> None:
        floor = math.nextafter(0.1, 1)
        _, spread = constant(13.0, floor).run(rows()[0])
        assert set(spread.tolist()) == {floor}
        raised = fitted["gradient-boosting"]._replace(lowest_spread=0.3)
        _, spread = OnnxGraph(to_onnx(raised)).run(rows()[0])
        assert spread.min() == 0.3 < spread.max()

    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_it_has_the_stated_opsets_and_no_name_twice(
        self, fitted: dict[FamilyName, Fitted], family: FamilyName
    ) -> None:
        model = onnx.load_from_string(to_onnx(fitted[family]))
        assert {opset.domain: opset.version for opset in model.opset_import} == {"": OPSET, "ai.onnx.ml": OPSET_ML}
        outputs = [name for node in model.graph.node for name in node.output]
        names = [node.name for node in model.graph.node if node.name]
        assert len(set(outputs)) == len(outputs)
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_what_nobody_reads_is_left_out(self, fitted: dict[FamilyName, Fitted], family: FamilyName) -> None:
        model = onnx.load_from_string(to_onnx(fitted[family]))
        attributes = {attribute.name for node in model.graph.node for attribute in node.attribute}
        assert "nodes_values" in attributes
        assert not attributes & {"nodes_hitrates", "nodes_missing_value_tracks_true"}


def digest_lines(fitted: dict[FamilyName, Fitted]) -> bytes:
    lines = (f"{family} {hashlib.sha256(to_onnx(found)).hexdigest()}\n" for family, found in fitted.items())
    return "".join(lines).encode()


if __name__ == "__main__":
    sys.stdout.buffer.write(digest_lines({name: learned(name) for name in FAMILY_NAMES}))
