"""Which sales are chosen for a house, and how their prices are adjusted."""

from hashlib import sha256

import numpy as np
import pytest

from pricing.artifacts.manifest import Manifest, Recalibration
from pricing.artifacts.sales_file import parse_sales
from pricing.artifacts.store import Artifact
from pricing.errors import DamagedArtifactError
from pricing.house import FEATURES, Matrix
from pricing.inference.comparables import ComparableSales, comparable_sales_of
from pricing.inference.leaves import LeafFinder, price_trees
from pricing.inference.predictor import Predictor, load
from pricing.inference.sandbox import load_in_sandbox
from tests.column_sales import Keeping
from train.models.encoding import inputs_of
from train.sales.split import IDENTITY, positions, sides


@pytest.fixture(scope="module")
def predictor(keeping: Keeping) -> Predictor:
    return load(keeping.artifact)


@pytest.fixture(scope="module")
def sales(keeping: Keeping, predictor: Predictor) -> ComparableSales:
    found = comparable_sales_of(keeping.artifact, predictor)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def inputs(keeping: Keeping) -> Matrix:
    """All sales of the training, as the version reads them."""
    return inputs_of(keeping.sales.houses, keeping.sales.others, keeping.artifact.manifest.columns)


def key(house: Matrix, price: float) -> tuple[float, ...]:
    return (*house.tolist(), price)


def test_only_rows_that_were_learned_from_are_kept_and_no_test_sale(keeping: Keeping, sales: ComparableSales) -> None:
    all_sales, split = keeping.sales, keeping.artifact.manifest.split
    side = sides(positions(all_sales.houses, split), split)
    keys = [key(house, price) for house, price in zip(all_sales.houses, all_sales.prices, strict=True)]
    kept = parse_sales(keeping.artifact.sales or b"", keeping.artifact.manifest)
    found = [key(house, price) for house, price in zip(kept.fields.T, kept.prices, strict=True)]

    assert sorted(found) == sorted(keys[row] for row in np.flatnonzero(side.fit))
    assert not {*found} & {keys[row] for row in np.flatnonzero(side.test)}
    assert len(sales) == side.fit.sum()


def test_a_sale_reads_as_in_the_file_of_the_training(keeping: Keeping, sales: ComparableSales, inputs: Matrix) -> None:
    """Prices decide which row it is: they are nearly all different."""
    rows = {price: row for row, price in enumerate(keeping.sales.prices.tolist())}
    cells = keeping.sales.others.values
    for sale in sales.find(inputs[:1], 20):
        row = rows[sale.price]
        known = {name: sale.house.get(name) for name in ("latitude", "zip_code", "heating")}
        assert [sale.house[name] for name in FEATURES] == pytest.approx(inputs[row, :5].tolist())
        assert keeping.sales.sold_on is not None
        assert sale.sold_on == keeping.sales.sold_on[row].item()
        assert known["latitude"] == (None if not cells["latitude"][row] else float(cells["latitude"][row]))
        assert [known["zip_code"], known["heating"]] == [cells[name][row] or None for name in ("zip_code", "heating")]


def test_the_most_similar_are_those_whose_leaves_are_nearest(
    keeping: Keeping, sales: ComparableSales, inputs: Matrix
) -> None:
    finder = LeafFinder(price_trees(keeping.artifact.graph, inputs.shape[1]))
    kept = parse_sales(keeping.artifact.sales or b"", keeping.artifact.manifest)
    test = np.flatnonzero(
        sides(positions(keeping.sales.houses, keeping.artifact.manifest.split), keeping.artifact.manifest.split).test
    )
    for row in test[:20]:
        apart = kept.leaves.astype(int) - finder.find(inputs[row : row + 1])
        far = np.abs(apart).sum(axis=0)
        similar = np.maximum(0, 1 - far / far.mean())
        found = sales.find(inputs[row : row + 1], 20)
        assert [sale.similarity for sale in found] == pytest.approx(sorted(similar, reverse=True)[:20])
        assert [sale.price for sale in found] == kept.prices[np.argsort(far, kind="stable")[:20]].tolist()
        assert 0 <= found[-1].similarity <= found[0].similarity <= 1


def test_a_house_is_never_compared_with_itself(keeping: Keeping, sales: ComparableSales, inputs: Matrix) -> None:
    """Also if it was sold at another age, and with other values of what the split does not look at."""
    identity = [FEATURES.index(name) for name in IDENTITY]
    fit = np.flatnonzero(
        sides(positions(keeping.sales.houses, keeping.artifact.manifest.split), keeping.artifact.manifest.split).fit
    )
    for row in fit[:50]:
        house = inputs[row : row + 1].copy()
        house[0, FEATURES.index("age_years")] += 1
        for asked in (inputs[row : row + 1], house):
            found = sales.find(asked, 20)
            assert len(found) == 20
            for sale in found:
                same = [sale.house[FEATURES[place]] == pytest.approx(float(asked[0, place])) for place in identity]
                assert not all(same)


def test_a_house_with_gaps_and_an_unknown_category_is_compared_too(sales: ComparableSales, inputs: Matrix) -> None:
    house = inputs[:1].copy()
    house[:, len(FEATURES) :] = np.nan

    found = sales.find(house, 5)

    assert len(found) == 5
    assert all(np.isfinite([sale.adjusted_price, sale.similarity]).all() for sale in found)


def test_the_adjusted_price_is_that_of_the_models_own_differences(
    predictor: Predictor, sales: ComparableSales, inputs: Matrix
) -> None:
    kept_rows = sales.rows(np.arange(len(sales)))
    of_sales = dict(zip(map(tuple, kept_rows[:, :5].tolist()), predictor.predict(kept_rows, 0.9).price, strict=True))
    (price,) = predictor.predict(inputs[:1], 0.9).price
    for sale in sales.find(inputs[:1], 10):
        own = of_sales[tuple(np.float32(sale.house[name]).item() for name in FEATURES)]
        assert sale.adjusted_price == pytest.approx(sale.time_adjusted_price * price / own)


def test_a_rising_market_raises_the_price_of_an_old_sale(
    keeping: Keeping, sales: ComparableSales, inputs: Matrix
) -> None:
    """The market of this version rises by 2 % every 30 days."""
    manifest = keeping.artifact.manifest
    assert manifest.sales is not None
    assert manifest.data.last_sale is not None
    rises = []
    for row in range(100):
        for sale in sales.find(inputs[row : row + 1], 5):
            assert sale.sold_on is not None
            periods = (manifest.data.last_sale - sale.sold_on).days // 30
            rises.append((periods, np.log(sale.time_adjusted_price / sale.price)))
            assert rises[-1][1] == pytest.approx(manifest.sales.market[0] - manifest.sales.market[periods])
    periods_ago, rise = np.array(rises).T
    assert np.polyfit(periods_ago, rise, 1)[0] == pytest.approx(0.02, abs=0.003)


def test_of_a_recalibrated_version_the_level_of_now_is_its_own(
    keeping: Keeping, predictor: Predictor, inputs: Matrix
) -> None:
    manifest = keeping.artifact.manifest
    made = Recalibration.model_construct(parent="v3.0.0")
    shifted = manifest.calibration.model_copy(update={"shift": 0.5})
    later = manifest.model_copy(update={"recalibrated": made, "calibration": shifted})
    assert manifest.sales is not None

    before, after = (
        comparable_sales_of(keeping.artifact._replace(manifest=found), predictor) for found in (manifest, later)
    )

    assert before is not None
    assert after is not None
    ratio = after.find(inputs[:1], 1)[0].time_adjusted_price / before.find(inputs[:1], 1)[0].time_adjusted_price
    assert ratio == pytest.approx(np.exp(0.5 - manifest.sales.market[0]))


def test_without_dates_the_time_adjusted_price_is_the_price(
    keeping: Keeping, predictor: Predictor, inputs: Matrix
) -> None:
    sales = parse_sales(keeping.artifact.sales or b"", keeping.artifact.manifest)._replace(days=None)
    found = comparable_sales_of(sealed(keeping.artifact, sales.to_bytes(), market=()), predictor)

    assert found is not None
    for sale in found.find(inputs[:1], 5):
        assert (sale.sold_on, sale.time_adjusted_price) == (None, sale.price)


def sealed(artifact: Artifact, content: bytes, **changes: object) -> Artifact:
    """The version with another file of sales, as a careless tool would seal it."""
    assert artifact.manifest.sales is not None
    seal = {"sha256": sha256(content).hexdigest(), "size": len(content)} | changes
    sales = artifact.manifest.sales.model_copy(update=seal)
    manifest = Manifest.parse(artifact.manifest.model_copy(update={"sales": sales}).to_bytes())
    return artifact._replace(manifest=manifest, sales=content)


def test_sales_of_another_graph_are_refused_by_the_sandbox_and_by_a_worker(
    keeping: Keeping, predictor: Predictor, subtests: pytest.Subtests
) -> None:
    artifact = keeping.artifact
    sales = parse_sales(artifact.sales or b"", artifact.manifest)
    bad = {
        "sales.bin: the leaves of its sales are not those of this graph": sealed(
            artifact, sales._replace(leaves=sales.leaves + np.uint8(1)).to_bytes()
        ),
        f"sales.bin: leaves of {len(sales.leaves) - 1} trees, expected {len(sales.leaves)}": sealed(
            artifact, sales._replace(leaves=sales.leaves[1:]).to_bytes()
        ),
        "sales.bin: the manifest has 1 levels of the market, expected one for each sale": sealed(
            artifact, artifact.sales or b"", market=(0.0,)
        ),
        f"sales.bin: observed {len(sales.prices):,} sales, expected 7": sealed(artifact, artifact.sales or b"", rows=7),
        "sales.bin: a price is not valid, expected a number above 0 and up to 10,000,000,000": sealed(
            artifact, sales._replace(prices=-sales.prices).to_bytes()
        ),
    }
    for reason, version in bad.items():
        with subtests.test(reason):
            with pytest.raises(DamagedArtifactError) as refused:
                comparable_sales_of(version, predictor)
            assert str(refused.value) == f"v3.0.0: {reason}"
            with pytest.raises(DamagedArtifactError) as refused:
                load_in_sandbox(version)
            assert str(refused.value) == f"v3.0.0: {reason}"
    load_in_sandbox(artifact)
