"""From a matrix to prices and intervals, and which graphs are refused."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pricing.artifacts.manifest import Calibration, Example
from pricing.artifacts.store import Artifact
from pricing.errors import DamagedArtifactError, ModelError
from pricing.house import Column, Matrix, columns_to_matrix
from pricing.inference.predictor import OnnxGraph, Predictor, check_corners, check_examples, load, predictor_of
from tests.fakes import SPREAD, ThousandDollarsASquareFoot
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.market import synthetic_sales

TABLE = Calibration(rows=200, levels=(0.5, 0.9, 0.99), quantiles=(1.0, 2.0, 3.0))
FAMILIES = ("gradient-boosting", "random-forest")


@pytest.fixture(scope="module")
def artifacts(published: Artifact) -> dict[str, Artifact]:
    """One real version of each family."""
    forest = train(data.synthetic(seed=0, rows=1_500), Plan("v1.1.0", "0", 0, "random-forest"), lambda _: None)
    return {artifact.manifest.family: artifact for artifact in (published, forest)}


def batch(rows: int = 1_000) -> Matrix:
    return columns_to_matrix(synthetic_sales(rows, seed=7))


def one_house(square_feet: float) -> Matrix:
    return np.array([[square_feet, 3, 2, 10, 5]], dtype=np.float32)


def answer(predictor: Predictor, houses: Matrix) -> Matrix:
    """Price, lower and upper as columns."""
    return np.column_stack(predictor.predict(houses, 0.9)[:3])


class TestTheInterval:
    @pytest.mark.parametrize(
        ("level", "held", "times"), [(0.5, 0.5, 2), (0.7, 0.9, 4), (0.9, 0.9, 4), (0.95, 0.99, 8), (0.99, 0.99, 8)]
    )
    def test_it_is_the_price_divided_and_multiplied_by_exp_of_quantile_times_spread(
        self, level: float, held: float, times: float
    ) -> None:
        # the spread is log 2, so a quantile of 1, 2 or 3 is a factor of 2, 4 or 8
        predictor = Predictor(ThousandDollarsASquareFoot(), TABLE)
        price, lower, upper, confidence_level = predictor.predict(one_house(2_000), level)[:4]
        assert price == pytest.approx([2_000_000], rel=1e-12)
        assert lower == pytest.approx([2_000_000 / times], rel=1e-12)
        assert upper == pytest.approx([2_000_000 * times], rel=1e-12)
        assert confidence_level == held

    def test_answers_keep_the_order_of_the_houses(self) -> None:
        houses = np.concatenate([one_house(square_feet) for square_feet in (3, 1, 2)])
        found = Predictor(ThousandDollarsASquareFoot(), TABLE).predict(houses, 0.5)
        assert found.price == pytest.approx([3_000, 1_000, 2_000], rel=1e-12)
        assert found.lower == pytest.approx([1_500, 500, 1_000], rel=1e-12)

    def test_a_level_outside_of_the_table_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"from 0\.5 to 0\.99, got 0\.4$"):
            Predictor(ThousandDollarsASquareFoot(), TABLE).predict(one_house(2_000), 0.4)

    def test_no_houses_have_no_prices(self, published: Artifact) -> None:
        assert load(published).predict(batch(0), 0.9).price == []

    @pytest.mark.parametrize("family", FAMILIES)
    def test_bounds_of_a_real_version_are_ordered_and_widen_with_the_level(
        self, artifacts: dict[str, Artifact], family: str
    ) -> None:
        predictor = load(artifacts[family])
        narrow, wide = predictor.predict(batch(), 0.5), predictor.predict(batch(), 0.99)
        rising = np.column_stack([wide.lower, narrow.lower, narrow.price, narrow.upper, wide.upper])
        assert (np.diff(rising, axis=1) > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
class TestTheSameHouseHasTheSamePrice:
    @pytest.mark.parametrize("seed", range(5))
    def test_in_any_order_of_a_batch(self, artifacts: dict[str, Artifact], family: str, seed: int) -> None:
        predictor, houses = load(artifacts[family]), batch()
        order = np.random.default_rng(seed).permutation(len(houses))
        assert answer(predictor, houses[order]).tobytes() == answer(predictor, houses)[order].tobytes()

    @pytest.mark.parametrize("size", [1, 7, 999])
    def test_alone_in_a_small_and_in_a_large_batch(
        self, artifacts: dict[str, Artifact], family: str, size: int
    ) -> None:
        predictor, houses = load(artifacts[family]), batch()
        parts = [answer(predictor, houses[start : start + size]) for start in range(0, len(houses), size)]
        assert np.concatenate(parts).tobytes() == answer(predictor, houses).tobytes()

    def test_in_another_session_of_the_same_bytes(self, artifacts: dict[str, Artifact], family: str) -> None:
        first, second = load(artifacts[family]), load(artifacts[family])
        assert answer(first, batch()).tobytes() == answer(second, batch()).tobytes()


class TestRefusals:
    @pytest.mark.parametrize("made", [b"", b"no graph at all", b"\x08\x0a"])
    def test_bytes_that_are_no_graph_are_refused(self, published: Artifact, made: bytes) -> None:
        with pytest.raises(ModelError, match=r"^the graph cannot be loaded: "):
            OnnxGraph(made)
        with pytest.raises(DamagedArtifactError, match=r"^v1\.0\.0: (not a valid ONNX file$|the file of )"):
            load(published._replace(graph=made))

    def test_a_cut_off_graph_is_refused(self, published: Artifact) -> None:
        with pytest.raises(DamagedArtifactError, match=r"^v1\.0\.0: not a valid ONNX file$"):
            load(published._replace(graph=published.graph[:-100]))

    @pytest.mark.parametrize(
        ("log_price", "spread", "told"),
        [
            (math.nan, 0.1, "price nan and spread 0.1"),
            (math.inf, 0.1, "price inf and spread 0.1"),
            (1e4, 0.1, "price inf and spread 0.1"),
            (-1e4, 0.1, "price 0.0 and spread 0.1"),
            (13.0, 0.0, "price 442413.3920089205 and spread 0.0"),
            (13.0, math.nan, "price 442413.3920089205 and spread nan"),
        ],
    )
    def test_a_corner_without_a_price_is_refused(
        self, published: Artifact, log_price: float, spread: float, told: str
    ) -> None:
        class BrokenAbove(ThousandDollarsASquareFoot):
            def run(self, houses: Matrix) -> tuple[Column, Column]:
                good, width = np.full(len(houses), 13.0), np.full(len(houses), 0.1)
                old = houses[:, 3] >= 500
                return np.where(old, log_price, good), np.where(old, spread, width)

        with pytest.raises(ModelError) as refused:
            check_corners(BrokenAbove(), published.manifest)
        assert str(refused.value) == (
            f"observed {told} for square_feet 0, bedrooms 0, bathrooms 0, age_years 500, distance_to_city 0, "
            "expected finite numbers above 0"
        )

    @pytest.mark.parametrize("field", ["log_price", "spread"])
    @pytest.mark.parametrize("number", [0, 4])
    def test_an_example_that_differs_in_its_last_bit_is_refused(
        self, published: Artifact, field: str, number: int
    ) -> None:
        examples = list(published.manifest.examples)
        true = examples[number]
        examples[number] = true.model_copy(update={field: math.nextafter(getattr(true, field), math.inf)})
        manifest = published.manifest.model_copy(update={"examples": tuple(examples)})
        with pytest.raises(DamagedArtifactError) as refused:
            load(published._replace(manifest=manifest))
        assert str(refused.value) == (
            f"v1.0.0: example {number}: observed {[true.log_price, true.spread]}, "
            f"expected {[examples[number].log_price, examples[number].spread]}"
        )

    def test_a_graph_that_answers_nan_matches_no_example(self) -> None:
        class Nan:
            def run(self, houses: Matrix) -> tuple[Column, Column]:
                return np.full(len(houses), math.nan), np.full(len(houses), SPREAD)

        example = Example(features=(2000, 3, 2, 10, 5), log_price=math.log(2e6), spread=SPREAD)
        check_examples(ThousandDollarsASquareFoot(), [example])
        with pytest.raises(ModelError, match=r"^example 0: observed \[nan, "):
            check_examples(Nan(), [example])

    def test_a_graph_that_does_not_answer_each_house_is_refused(self, published: Artifact) -> None:
        class OneSpread:
            def run(self, houses: Matrix) -> tuple[Column, Column]:
                return np.full(len(houses), math.log(2e6)), np.full(1, SPREAD)

        example = Example(features=(2000, 3, 2, 10, 5), log_price=math.log(2e6), spread=SPREAD)
        with pytest.raises(ModelError, match=r"^observed outputs of shape \(2,\) and \(1,\), expected two of \(2,\)$"):
            check_examples(OneSpread(), [example, example])
        with pytest.raises(ModelError, match=r"expected two of \(64,\)$"):
            check_corners(OneSpread(), published.manifest)

    def test_a_name_that_is_no_text_is_refused_and_nothing_printed(
        self, published: Artifact, capfd: pytest.CaptureFixture[str]
    ) -> None:
        graph = published.graph.replace(b"houses", b"h\xffuses")
        with pytest.raises(ModelError, match=r"^the graph cannot be loaded: "):
            OnnxGraph(graph)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("houses", "what"),
        [
            (np.zeros((2, 4), np.float32), r"float32 of shape \(2, 4\)"),
            (np.zeros(5, np.float32), r"float32 of shape \(5,\)"),
            (np.zeros((1, 5), np.float64), r"float64 of shape \(1, 5\)"),
        ],
    )
    def test_a_matrix_that_the_graph_does_not_take_is_told(
        self, published: Artifact, houses: Matrix, what: str
    ) -> None:
        with pytest.raises(ModelError, match=f"^the graph cannot be run on {what}: "):
            OnnxGraph(published.graph).run(houses)


def test_nothing_is_written_below_the_home_folder(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    subprocess.run(
        [sys.executable, "-c", "import pricing.inference.predictor"],
        env=environment | {"HOME": str(tmp_path)},
        check=True,
    )
    assert list(tmp_path.rglob("*")) == []


class TestGaps:
    """Each set of known columns has the calibration that was made for it."""

    @staticmethod
    def widths(knowing: Artifact, *given: tuple[str, ...]) -> list[float]:
        """Half the log width of an interval, in spreads, if only these columns are known; by made-up tables."""
        manifest = knowing.manifest
        tables = tuple(
            table.model_copy(update={"quantiles": (10.0 + len(table.given),) * len(table.quantiles)})
            for table in manifest.gap_calibrations
            if table.given in {(), ("latitude",), ("latitude", "zip_code")}
        )
        predictor = predictor_of(OnnxGraph(knowing.graph), manifest.model_copy(update={"gap_calibrations": tables}))
        rows = np.full((len(given), 8), np.nan, dtype=np.float32)
        rows[:, :5] = (2000, 3, 2, 10, 5)
        for row, names in zip(rows, given, strict=True):
            for place, column in enumerate(manifest.columns):
                row[5 + place] = column.trained_from if column.name in names else np.nan
        found = predictor.predict(rows, 0.9)
        spread = OnnxGraph(knowing.graph).run(rows)[1]
        ones = [predictor.predict(row[None], 0.9).upper[0] for row in rows]
        assert ones == found.upper  # alone as in a batch
        widths: list[float] = (np.log(np.array(found.upper) / np.array(found.price)) / spread).round(6).tolist()
        return widths

    def test_a_set_of_columns_has_its_own_table(self, knowing: Artifact) -> None:
        whole = round(knowing.manifest.calibration.at(0.9)[1], 6)
        every = ("latitude", "zip_code", "heating")
        assert self.widths(knowing, (), ("latitude",), ("latitude", "zip_code"), every) == [10, 11, 12, whole]

    def test_a_set_without_a_table_has_that_of_the_largest_set_within_it(self, knowing: Artifact) -> None:
        assert self.widths(knowing, ("zip_code",), ("heating",), ("latitude", "heating")) == [10, 10, 11]
