"""The evidence of a version agrees with its metrics, and an audited column is never learned from."""

from dataclasses import replace
from typing import Final

import numpy as np
import pytest

from pricing.artifacts.evidence import Evidence
from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact
from pricing.house import FEATURES
from tests.column_sales import columns, write
from tests.test_formats import grown
from train.errors import DataError
from train.evidence.audits import check_audit, without_audited
from train.evidence.gather import RunOnce, with_evidence
from train.evidence.groups import short
from train.sales import rows as data
from train.sales.columns import Wish
from train.sales.rows import NO_OTHERS, Reading, Sales
from train.sales.split import positions, sides

MAX_BYTES: Final = 60_000


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Sales:
    cells = columns()
    cells["group"] = [("a", "b", "c")[place % 3] if place % 40 else "rare" for place in range(1_500)]
    return data.read(write(tmp_path_factory.mktemp("sales") / "sales.csv", cells), reading=Reading(others=None))


@pytest.fixture(scope="module")
def manifest(knowing: Artifact, sales: Sales) -> Manifest:
    return with_evidence(knowing, sales, ("group", "noise")).manifest


@pytest.fixture(scope="module")
def evidence(manifest: Manifest) -> Evidence:
    assert manifest.evidence is not None
    return manifest.evidence


def test_figures_that_the_metrics_have_too_are_the_same(manifest: Manifest, evidence: Evidence) -> None:
    for interval in manifest.metrics.intervals:
        (held,) = (held for held in evidence.levels if held.level == interval.level)
        assert (held.coverage, held.median_width) == (short(interval.coverage), short(interval.median_width))
    (whole,) = (given for given in evidence.given if given.unknown == ())
    assert whole.mape == short(manifest.metrics.test.mape)
    for groups in evidence.columns:
        assert sum(group.rows for group in groups.groups) == manifest.metrics.test.rows
    assert sum(band.rows for band in evidence.prices) == manifest.metrics.test.rows


def test_the_baselines_are_made_from_the_rows_that_were_learned_from(
    manifest: Manifest, evidence: Evidence, sales: Sales
) -> None:
    side = sides(positions(sales.houses, manifest.split), manifest.split)
    a_foot = np.median(sales.prices[side.fit] / sales.houses[side.fit, 0])
    error = np.abs(a_foot * sales.houses[side.test, 0] / sales.prices[side.test] - 1)

    by_foot, constant = evidence.baselines
    assert by_foot.mape == pytest.approx(error.mean(), rel=1e-4)
    assert manifest.metrics.test.mape < by_foot.mape < constant.mape


def test_the_version_is_worse_without_what_it_has_learned_from(manifest: Manifest, evidence: Evidence) -> None:
    names = tuple(column.name for column in manifest.columns)
    by_name = {effect.name: effect for effect in evidence.effects}
    by_unknown = {given.unknown: given for given in evidence.given}

    assert list(by_name) == [*FEATURES, *names]
    assert by_unknown.keys() == {(), names, *((name,) for name in names)}
    for name in ("square_feet", *names):
        assert by_name[name].mape > manifest.metrics.test.mape
    for name in names:
        assert by_name[name].mape == by_unknown[name,].mape
    assert by_unknown[names].mape > max(by_unknown[name,].mape for name in names)


def test_prices_rise_with_the_size_of_the_house_and_categories_have_their_names(evidence: Evidence) -> None:
    by_name = {effect.name: effect for effect in evidence.effects}

    assert by_name["square_feet"].prices[0] < by_name["square_feet"].prices[-1]
    assert set(by_name["heating"].categories) == {"gas", "oil", "heat pump"}
    pairs = dict(zip(by_name["heating"].categories, by_name["heating"].prices, strict=True))
    assert pairs["gas"] < pairs["oil"] < pairs["heat pump"]  # as the market was made


def test_an_audit_has_a_study_of_each_group_that_is_large_enough(manifest: Manifest, evidence: Evidence) -> None:
    group, noise = evidence.audits

    assert sorted(study.group for study in group.studies) == ["a", "b", "c"]
    assert [small.group for small in group.too_small] == ["rare"]
    rows = [study.rows for study in group.studies] + [small.rows for small in group.too_small]
    assert sum(rows) == manifest.metrics.test.rows
    assert len(noise.studies) == 6  # fifths of a number, and where it is unknown
    assert all(study.median_ratio.lower is not None for study in group.studies)


def test_an_audited_column_changes_nothing_but_the_audit(knowing: Artifact, sales: Sales, evidence: Evidence) -> None:
    without = with_evidence(knowing, sales).manifest.evidence

    assert without == evidence.model_copy(update={"audits": ()})
    assert "group" not in without_audited(sales, ("group",)).others.values


def test_a_column_cannot_be_both_audited_and_learned_from() -> None:
    with pytest.raises(DataError, match=r"^--audit and --columns both name group: "):
        check_audit(("group",), {"group": Wish()})
    with pytest.raises(DataError, match=r"^--audit: age_years is a field of the contract"):
        check_audit(("age_years",), "all")
    check_audit(("group",), "all")
    check_audit(("group",), {"zip_code": Wish()})


def test_an_audited_column_must_be_in_the_file(sales: Sales) -> None:
    with pytest.raises(DataError, match=r"^sales\.csv: missing column income; name columns of the file with --audit$"):
        without_audited(sales, ("income", "group"))


def test_the_reasons_of_refusals_hold_no_cell_of_the_file(published: Artifact) -> None:
    market = data.synthetic(seed=0, rows=1_500)
    refusal = data.Refusal("price", 'not a number as the other cells are, such as "Mary Smith"', 2, (3, 4))

    found = with_evidence(published, replace(market, refusals=(refusal,))).manifest

    assert found.evidence is not None
    assert [(r.field, r.reason, r.rows) for r in found.evidence.refusals] == [
        ("price", "not a number as the other cells are", 2)
    ]
    assert b"Mary" not in found.to_bytes()


def test_a_version_of_five_fields_has_evidence_without_columns(published: Artifact) -> None:
    found = with_evidence(published, data.synthetic(seed=0, rows=1_500)).manifest.evidence

    assert found is not None
    assert (found.given, found.place, found.audits) == ((), None, ())
    assert len(found.effects) == len(FEATURES)


def test_a_column_that_later_sales_lack_is_unknown_in_all_of_them(knowing: Artifact, sales: Sales) -> None:
    found = with_evidence(knowing, replace(sales, others=NO_OTHERS)).manifest.evidence

    assert found is not None
    assert {group.group for groups in found.columns[len(FEATURES) :] for group in groups.groups} == {"(unknown)"}


def test_it_is_small_and_survives_the_manifest(manifest: Manifest, knowing: Artifact) -> None:
    assert Manifest.parse(manifest.to_bytes()) == manifest
    assert len(manifest.to_bytes()) - len(knowing.manifest.to_bytes()) < MAX_BYTES


def test_evidence_of_the_next_release_is_read(manifest: Manifest) -> None:
    found = Manifest.parse(grown(manifest.to_bytes(), 2))

    assert found.evidence == manifest.evidence


def test_a_graph_is_run_once_for_the_same_rows() -> None:
    class Counting:
        runs = 0

        def run(self, houses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.runs += 1
            return houses[:, 0].astype(np.float64), np.ones(len(houses))

    graph, first, second = Counting(), np.zeros((2, 5), np.float32), np.ones((2, 5), np.float32)
    once = RunOnce(graph)

    found = [once.run(rows)[0].tolist() for rows in (first, first, second, first)]

    assert found == [[0, 0], [0, 0], [1, 1], [0, 0]]
    assert graph.runs == 3
