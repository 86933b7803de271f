"""Retraining end to end on the synthetic market: what is judged on which rows, what is published, what is told."""

import hashlib
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from rich.console import Console

from pricing.artifacts.manifest import Split
from pricing.artifacts.store import Artifact, Store
from pricing.errors import DamagedArtifactError, NothingDeployedError
from train.errors import DataError, TrainingError
from train.models.family_names import FamilyName
from train.models.training import Plan, train
from train.promotion.judge import Verdict
from train.promotion.publish import TrainOptions, train_and_publish
from train.promotion.retraining import (
    MIN_NEW_HOUSES,
    VERDICT_FILE,
    RetrainOptions,
    choose_evidence,
    retrain,
    times_used,
    unseen_by,
)
from train.sales import market
from train.sales import test_rows as seen
from train.sales.rows import Sales, accept
from train.sales.split import positions, sides
from train.sales.tables import COLUMNS

FAMILY: FamilyName = "gradient-boosting"
FEW, MANY = 1_500, 8_000


def write(path: Path, rows: int) -> Path:
    """The first rows of one market."""
    columns = market.synthetic_sales(MANY, seed=0)
    lines = [",".join(map(str, row)) for row in zip(*(columns[name][:rows].tolist() for name in COLUMNS), strict=True)]
    path.write_text("\n".join([",".join(COLUMNS), *lines]))
    return path


def order(path: Path, *, dry_run: bool = False) -> RetrainOptions:
    return RetrainOptions(path, None, FAMILY, 0, dry_run)


def silent() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """v1.0.0 of few rows is deployed; copied for each test."""
    folder = tmp_path_factory.mktemp("trained")
    store = Store(folder / "artifacts")
    path = write(folder / "few.csv", FEW)
    train_and_publish(store, TrainOptions(path, None, FAMILY, None, deploy=False, seed=0), silent())
    store.deploy("v1.0.0")
    return store


@pytest.fixture
def champion(trained: Store, tmp_path: Path) -> Store:
    shutil.copytree(trained.root, tmp_path / "artifacts")
    return Store(tmp_path / "artifacts")


def test_more_rows_make_a_better_model_which_is_published_with_its_verdict(champion: Store, tmp_path: Path) -> None:
    told = io.StringIO()

    verdict = retrain(champion, order(write(tmp_path / "many.csv", MANY)), Console(file=told, soft_wrap=True))

    assert verdict.is_better
    assert (verdict.champion, verdict.challenger) == ("v1.0.0", "v1.1.0")
    assert Verdict.model_validate_json(champion.read_beside("v1.1.0", VERDICT_FILE) or b"") == verdict
    assert champion.versions() == ["v1.0.0", "v1.1.0"]
    assert champion.deployment().champion == "v1.0.0"  # deploying is the caller's
    assert f"gain {verdict.gain:.2%}, at least {verdict.gain_lower:.2%}" in told.getvalue()
    assert "verdict: v1.1.0 is better\n" in told.getvalue()


def test_both_are_judged_on_test_rows_that_have_come_since(champion: Store, tmp_path: Path) -> None:
    verdict = retrain(champion, order(write(tmp_path / "many.csv", MANY), dry_run=True), silent())
    columns = market.synthetic_sales(MANY, seed=0)
    sales = accept(columns, "", synthetic=True, first_line=1)
    split = champion.read("v1.0.0").manifest.split
    test = sides(positions(sales.houses, split), split).test

    assert verdict.only_new
    assert verdict.rows == verdict.new_rows == int(test[FEW:].sum())


def test_the_same_rows_make_no_better_model_and_all_test_rows_judge(champion: Store, tmp_path: Path) -> None:
    verdict = retrain(champion, order(write(tmp_path / "few.csv", FEW)), silent())

    assert not verdict.is_better
    assert (verdict.only_new, verdict.new_rows, verdict.gain) == (False, 0, 0.0)
    assert verdict.rows == champion.read("v1.0.0").manifest.metrics.test.rows
    assert champion.versions() == ["v1.0.0", "v1.1.0"]


def test_a_dry_run_writes_nothing(champion: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "many.csv", MANY)
    before = sorted(champion.root.rglob("*"))
    told = io.StringIO()

    verdict = retrain(champion, order(path, dry_run=True), Console(file=told, soft_wrap=True))

    assert verdict.is_better
    assert sorted(champion.root.rglob("*")) == before
    assert told.getvalue().endswith("dry run: v1.1.0 was not published\n")


def test_the_verdict_says_how_often_such_rows_were_used(champion: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "few.csv", FEW)

    used = [retrain(champion, order(path), silent()).used_before for _ in range(3)]

    assert used == [0, 1, 2]
    shutil.rmtree(champion.root / "v1.1.0")  # pruned: the count does not fall
    shutil.rmtree(champion.root / "v1.2.0")
    manifest = champion.read("v1.0.0").manifest
    assert [times_used(champion, manifest, only_new=only_new) for only_new in (False, True)] == [3, 3]
    other = manifest.model_copy(update={"version": "v9.0.0"})
    assert [times_used(champion, other, only_new=only_new) for only_new in (False, True)] == [3, 0]


def test_a_damaged_verdict_counts_for_nothing(champion: Store, tmp_path: Path) -> None:
    retrain(champion, order(write(tmp_path / "few.csv", FEW)), silent())
    (champion.root / "v1.1.0" / VERDICT_FILE).write_bytes(b"{}")

    assert times_used(champion, champion.read("v1.0.0").manifest, only_new=False) == 0


def sales_with(champion: Store, new_test_rows: int) -> Sales:
    """The champion's own rows, and rows of which so many are test rows."""
    split = champion.read("v1.0.0").manifest.split
    columns = market.synthetic_sales(MANY, seed=0)
    test = sides(positions(accept(columns, "", synthetic=True, first_line=1).houses, split), split).test
    kept = np.arange(MANY) < FEW
    house = positions(accept(columns, "", synthetic=True, first_line=1).houses, split)
    _, first = np.unique(house, return_index=True)  # so that there are as many houses as rows
    kept[[row for row in np.flatnonzero(test & ~kept) if row in set(first)][:new_test_rows]] = True
    return accept({name: values[kept] for name, values in columns.items()}, "", synthetic=True, first_line=1)


@pytest.mark.parametrize(("new", "only_new"), [(999, False), (1_000, True)])
def test_from_1000_new_test_rows_on_only_those_judge(champion: Store, new: int, *, only_new: bool) -> None:
    manifest = champion.read("v1.0.0").manifest

    sales = sales_with(champion, new)
    evidence = choose_evidence(champion, manifest, sales, unseen_by(manifest, sales))

    assert (evidence.new_rows, evidence.only_new, MIN_NEW_HOUSES) == (new, only_new, 1_000)
    old = 0 if only_new else manifest.metrics.test.rows
    assert len(evidence.prices) == len(evidence.houses) == len(evidence.position) == new + old


def test_a_house_that_is_sold_ten_times_is_one_of_the_1000(champion: Store) -> None:
    manifest, sales = champion.read("v1.0.0").manifest, sales_with(champion, 100)
    again = np.tile(sales.houses, (10, 1)), np.repeat(np.arange(1.0, 11), len(sales.prices)) * np.tile(sales.prices, 10)
    sales = replace(sales, houses=again[0], prices=again[1])

    evidence = choose_evidence(champion, manifest, sales, unseen_by(manifest, sales))

    assert evidence.new_rows > 2_000
    assert not evidence.only_new


@pytest.mark.parametrize("content", [None, b"", b"damaged"], ids=["none", "empty", "damaged"])
def test_without_the_memory_of_its_rows_all_test_rows_judge(champion: Store, content: bytes | None) -> None:
    path = champion.root / "v1.0.0" / seen.FILE
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    manifest, sales = champion.read("v1.0.0").manifest, sales_with(champion, 1_000)
    evidence = choose_evidence(champion, manifest, sales, unseen_by(manifest, sales))

    assert (evidence.new_rows, evidence.only_new) == (0, False)


def test_without_a_champion_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(NothingDeployedError, match="no comparison is possible: `appraiser train` makes a first one"):
        retrain(Store(tmp_path / "artifacts"), order(tmp_path / "none.csv"), silent())
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_champion_cannot_be_compared_with(champion: Store, tmp_path: Path) -> None:
    (champion.root / "v1.0.0" / "model.onnx").write_bytes(b"damaged")

    with pytest.raises(DamagedArtifactError):
        retrain(champion, order(tmp_path / "none.csv"), silent())


def with_first_feature(champion: Store, change: dict[str, object], *, sealed: bool = True) -> None:
    """The champion as a release with another contract would have left it; unsealed, as a vandal would."""
    manifest, pointer = champion.root / "v1.0.0" / "manifest.json", champion.root / "deployment.json"
    content, deployment = orjson.loads(manifest.read_bytes()), orjson.loads(pointer.read_bytes())
    content["features"][0] |= change
    manifest.write_bytes(orjson.dumps(content))
    if sealed:
        deployment["sha256"]["v1.0.0"] = hashlib.sha256(manifest.read_bytes()).hexdigest()
        pointer.write_bytes(orjson.dumps(deployment))


@pytest.mark.parametrize(
    "change",
    [{"name": "square_meters"}, {"unit": "square meters"}, {"maximum": 5_000.0}],
    ids=["name", "unit", "bound"],
)
def test_a_champion_for_another_contract_cannot_be_compared_with(
    champion: Store, tmp_path: Path, change: dict[str, object]
) -> None:
    with_first_feature(champion, change)

    with pytest.raises(TrainingError, match=r"`appraiser train` makes v2\.0\.0, `appraiser promote` deploys it$"):
        retrain(champion, order(tmp_path / "none.csv"), silent())


def test_a_manifest_that_was_changed_since_is_damaged_and_no_other_contract(champion: Store, tmp_path: Path) -> None:
    with_first_feature(champion, {"name": "square_meters"}, sealed=False)

    with pytest.raises(DamagedArtifactError, match=r"v1\.0\.0/manifest\.json .* does not match expected"):
        retrain(champion, order(tmp_path / "none.csv"), silent())


def resold(path: Path, rows: int, share: float = 0.3) -> Sales:
    """The first rows of one market, of which a share is sold again four years later; also written to a file."""
    columns = market.synthetic_sales(MANY, seed=0)
    again = np.arange(rows) < share * rows
    first = {name: values[:rows] for name, values in columns.items()}
    later = {name: values[again] for name, values in first.items()}
    later["age_years"], later["price"] = later["age_years"] + 4, np.round(later["price"] * 1.01)
    both = {name: np.append(first[name], later[name]) for name in COLUMNS}
    lines = [",".join(map(str, row)) for row in zip(*(both[name].tolist() for name in COLUMNS), strict=True)]
    path.write_text("\n".join([",".join(COLUMNS), *lines]))
    return accept(both, path.name, synthetic=False, first_line=2)


@pytest.fixture
def old_split(tmp_path: Path) -> Store:
    """v1.0.0 of a release that hashed the age too: it has learned from what that split lets it, and is deployed."""
    split = Split(salt="0", calibrate=0.2, test=0.2)
    sales = resold(tmp_path / "old.csv", 2_500)
    learned = ~sides(positions(sales.houses, split), split).test
    rows = replace(sales, houses=sales.houses[learned], prices=sales.prices[learned])
    manifest, graph, _ = train(rows, Plan("v1.0.0", "0", 0, FAMILY), lambda _: None)
    store = Store(tmp_path / "artifacts")
    store.publish(Artifact(manifest.model_copy(update={"split": split}), graph))
    store.deploy("v1.0.0")
    return store


def test_no_house_that_either_has_learned_from_judges_versions_of_different_splits(
    old_split: Store, tmp_path: Path
) -> None:
    path, told = tmp_path / "new.csv", io.StringIO()
    sales = resold(path, 6_000)

    verdict = retrain(old_split, order(path), Console(file=told, soft_wrap=True))

    before, after = (old_split.read(version).manifest for version in ("v1.0.0", "v1.1.0"))
    old, new = (sides(positions(sales.houses, manifest.split), manifest.split) for manifest in (before, after))
    house = positions(sales.houses, after.split)
    judged = unseen_by(before, sales)
    assert verdict.rows == judged.sum() > 1_000
    assert not (judged & ~old.test).any()
    assert not np.isin(house[judged], house[~old.test]).any()
    assert np.isin(house[old.test], house[~old.test]).any()  # the control: rows alone would let such houses in
    assert after.data.fit == (new.fit & ~judged).sum() < new.fit.sum()
    assert after.data.calibrate == (new.calibrate & ~judged).sum()
    assert (
        "v1.0.0 dealt its sales by square_feet, bedrooms, bathrooms, age_years, distance_to_city, v1.1.0 deals them by "
        "square_feet, bedrooms, bathrooms, distance_to_city: they are compared on houses of which neither learns from "
        "any sale, so v1.1.0 learns from about a fifth less\n"
    ) in told.getvalue()


def test_versions_of_the_same_split_are_compared_on_all_its_test_rows_without_a_word(
    champion: Store, tmp_path: Path
) -> None:
    told = io.StringIO()
    sales = resold(tmp_path / "new.csv", 3_000)
    manifest = champion.read("v1.0.0").manifest

    retrain(champion, order(tmp_path / "new.csv"), Console(file=told, soft_wrap=True))

    after = champion.read("v1.1.0").manifest
    test = sides(positions(sales.houses, manifest.split), manifest.split).test
    assert (unseen_by(manifest, sales) == test).all()
    assert after.data.test == test.sum()
    assert "dealt its sales" not in told.getvalue()


def test_shuffled_prices_publish_nothing(champion: Store, tmp_path: Path) -> None:
    columns = market.synthetic_sales(FEW, seed=0)
    columns["price"] = np.random.default_rng(0).permutation(columns["price"])
    lines = [",".join(map(str, row)) for row in zip(*(columns[name].tolist() for name in COLUMNS), strict=True)]
    (tmp_path / "wrong.csv").write_text("\n".join([",".join(COLUMNS), *lines]))

    with pytest.raises(DataError, match="do the prices belong to their houses"):
        retrain(champion, order(tmp_path / "wrong.csv"), silent())
    assert champion.versions() == ["v1.0.0"]
