"""What the models are held to on real sales: means over the splits of five salts.

One test for each family, with a subtest for each figure, so that two workers of pytest-xdist train one family each.
"""

import sys
from pathlib import Path
from statistics import mean
from typing import Final

import pytest

from pricing.artifacts.manifest import Interval, Manifest
from train.models.family_names import FAMILY_NAMES, FamilyName
from train.models.training import Plan, train
from train.sales import rows as data

SALES: Final = Path(__file__).parents[3] / "shared" / "data" / "king_county.csv"
SALTS: Final = ("0", "1", "2", "3", "4")

HIGHEST_MAPE: Final = 0.224
LOWEST_R2: Final = 0.69
LARGEST_GRAPH: Final[dict[FamilyName, int]] = {"gradient-boosting": 2_000_000, "random-forest": 10_000_000}
HIGHEST_PPM: Final = 5.0
WIDEST_AT_90: Final = 0.88
# by level: how far the coverage of all test rows, and of each fifth of the predicted price, may be from it
TOLERANCES: Final = {0.9: (0.01, 0.03), 0.8: (0.01, 0.03), 0.5: (0.015, 0.06)}

pytestmark = pytest.mark.skipif(not SALES.exists(), reason="king_county.csv is not here")


def at(intervals: tuple[Interval, ...], level: float) -> Interval:
    (found,) = (interval for interval in intervals if interval.level == level)
    return found


def coverage(manifests: list[Manifest], level: float) -> float:
    return mean(at(manifest.metrics.intervals, level).coverage for manifest in manifests)


def width(manifests: list[Manifest], level: float) -> float:
    return mean(at(manifest.metrics.intervals, level).median_width for manifest in manifests)


def coverage_by_fifth(manifests: list[Manifest], level: float) -> list[float]:
    return [mean(at(m.metrics.fifths[number].intervals, level).coverage for m in manifests) for number in range(5)]


def report(family: FamilyName, manifests: list[Manifest]) -> str:
    """The figures as a table, for `-s` and for a failure."""
    tests, parities = [m.metrics.test for m in manifests], [m.parity for m in manifests]
    test_ppm, threshold_ppm = max(p.test_ppm for p in parities), max(p.threshold_ppm for p in parities)
    lines = [
        f"King County, {family}, mean over salts {' '.join(SALTS)}, {mean(t.rows for t in tests):,.0f} test rows:",
        f"  MAPE {mean(t.mape for t in tests):.2%}, median error {mean(t.median_error for t in tests):.2%}",
        f"  R2 in dollars {mean(t.r2 for t in tests):.3f}",
        f"  ONNX at most {max(m.graph.size for m in manifests):,} bytes",
        f"  parity at most {test_ppm:.2f} ppm on test rows, {threshold_ppm:.2f} ppm on threshold rows",
    ]
    for level in TOLERANCES:
        fifths = " ".join(f"{share:.1%}" for share in coverage_by_fifth(manifests, level))
        lines.append(
            f"  at {level:.0%}: coverage {coverage(manifests, level):.2%}, "
            f"median width {width(manifests, level):.1%}, fifths {fifths}"
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_figures_of_king_county_hold(family: FamilyName, subtests: pytest.Subtests) -> None:
    sales = data.read(SALES)
    assert (len(sales.prices), sales.refused) == (21_613, 0)
    plans = [Plan("v1.0.0", salt, 0, family) for salt in SALTS]
    manifests = [train(sales, plan, lambda _: None).manifest for plan in plans]
    sys.stdout.write("\n" + report(family, manifests))

    with subtests.test("every split is another one"):
        assert len({tuple(row.features for row in manifest.examples) for manifest in manifests}) == len(SALTS)
    with subtests.test("mean absolute percentage error"):
        assert mean(manifest.metrics.test.mape for manifest in manifests) <= HIGHEST_MAPE
    with subtests.test("R2 in dollars"):
        assert mean(manifest.metrics.test.r2 for manifest in manifests) >= LOWEST_R2
    with subtests.test("size of the graph"):
        assert max(manifest.graph.size for manifest in manifests) <= LARGEST_GRAPH[family]
    with subtests.test("median width at 90 %"):
        assert width(manifests, 0.9) <= WIDEST_AT_90
    for level, (of_all, of_a_fifth) in TOLERANCES.items():
        with subtests.test("coverage", level=level):
            assert coverage(manifests, level) == pytest.approx(level, abs=of_all)
        with subtests.test("coverage of each fifth", level=level):
            assert coverage_by_fifth(manifests, level) == pytest.approx([level] * 5, abs=of_a_fifth)
    for manifest in manifests:
        with subtests.test("parity", salt=manifest.split.salt):
            assert 0 < manifest.parity.test_ppm <= HIGHEST_PPM
            assert 0 < manifest.parity.threshold_ppm <= HIGHEST_PPM
