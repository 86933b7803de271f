"""The report: every figure is that of the manifest, and the page needs nothing but itself."""

import base64
import hashlib
import re
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from axe_playwright_python.sync_playwright import Axe

from pricing.artifacts.evidence import Cell, Evidence, Judged, Place, RefusedRows
from pricing.artifacts.manifest import Manifest, Recalibration
from pricing.artifacts.store import Artifact
from pricing.artifacts.study import LaterSales, Origin
from report.figures import Figure, figures_of
from report.page import figures_as_json, report_of
from tests.browser import DESKTOP, PHONE, chromium, needs_chromium, watched
from tests.column_sales import columns, write
from tests.report.reading import Page, at, is_right, is_there
from train.evidence.gather import with_evidence
from train.sales import rows as data
from train.sales.rows import Reading

HOSTILE: Final = "<script>alert(1)</script> & \"'<img src=x onerror=alert(2)>"
MAX_BYTES: Final = 2_000_000


@pytest.fixture(scope="module")
def with_all(knowing: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A version with columns, two audits, and a part of each kind."""
    cells = columns()
    cells["owner"] = [[None, "a", "b", HOSTILE][place % 4] if place % 50 else "rare" for place in range(1_500)]
    sales = data.read(write(tmp_path_factory.mktemp("report") / "sales.csv", cells), reading=Reading(others=None))
    manifest = with_evidence(knowing, sales, ("owner", "noise")).manifest
    evidence = manifest.evidence
    assert evidence is not None
    edges = (1.0, 2.0, 3.0)
    place = Place(
        x_name="longitude",
        y_name="latitude",
        x_edges=edges,
        y_edges=edges,
        cells=(Cell(x=1, y=0, rows=40, median_ratio=0.93, mape=0.2),),
        elsewhere=7,
    )
    refusals = (RefusedRows(field="price", reason="below 1", rows=3),)
    evidence = evidence.model_copy(update={"place": place, "refusals": refusals, "judged": JUDGED})
    metrics = manifest.metrics.model_copy(update={"rolling_origins": ORIGINS})
    changed = {"evidence": evidence, "metrics": metrics, "recalibrated": RECALIBRATED}
    return Manifest.parse(manifest.model_copy(update=changed).to_bytes())


JUDGED: Final = Judged(
    champion="v1.9.0",
    rows=300,
    houses=290,
    used_before=1,
    champion_mape=0.2,
    mape=0.19,
    gain=0.05,
    gain_lower=-0.01,
    against=("the gain is 5.00%",),
)
ORIGINS: Final = tuple(
    Origin(
        last_sale=date(2026, month, 1),
        rows=900 + month,
        months=tuple(
            LaterSales(
                month=ahead,
                rows=50 + ahead,
                levels=(0.5, 0.9),
                coverage=(0.48 + ahead / 100, 0.9 - month / 100),
                median_ratio=1 - ahead / 50,
                mape=0.1 + ahead / 100,
            )
            for ahead in (1, 2, 3)
        ),
    )
    for month in (1, 2)
)
RECALIBRATED: Final = Recalibration(
    parent="v1.9.0",
    rows=300,
    first_sale=date(2026, 4, 1),
    last_sale=date(2026, 5, 1),
    bias_before=-0.0312,
    bias_after=0.0011,
    levels=(0.5, 0.9),
    coverage_before=(0.41, 0.85),
    coverage_after=(0.5, 0.9),
    against=("they are off by 2.0 standard errors",),
)


@pytest.fixture(params=["all", "five fields", "without evidence"])
def manifest(request: pytest.FixtureRequest, with_all: Manifest, published: Artifact) -> Manifest:
    plain: Manifest = published.manifest
    if request.param == "all":
        return with_all
    if request.param == "five fields":
        return with_evidence(published, data.synthetic(seed=0, rows=1_500)).manifest
    return plain


def read(manifest: Manifest) -> tuple[Page, Any]:
    """The page, and the figures of the manifest as JSON."""
    return Page(report_of(manifest).decode()), figures_of(manifest).found


def wrong(page: Page, found: Any) -> list[object]:  # noqa: ANN401 -- JSON
    """The figures and marks that are not those of the manifest."""
    texts = [shown for shown in page.shown if not is_right(shown, at(found, shown.path))]
    return [*texts, *(mark for mark in page.marks if not is_there(mark, at(found, mark.path)))]


def test_every_figure_read_back_from_the_page_equals_the_manifest(manifest: Manifest) -> None:
    page, found = read(manifest)

    assert wrong(page, found) == []
    assert page.unmarked == []
    assert len(page.shown) > 100


def test_the_page_of_a_version_with_everything_shows_all_of_its_parts(with_all: Manifest) -> None:
    page, _ = read(with_all)
    paths = {shown.path for shown in page.shown} | {mark.path for mark in page.marks}

    parts = [f"evidence.{name}" for name in Evidence.model_fields]
    parts += ["data", "metrics.study", "metrics.fifths", "metrics.rolling_origins", "recalibrated", "parity", "seal"]
    assert [part for part in parts if not any(path.startswith(part) for path in paths)] == []
    assert len(page.marks) > 150


def test_a_wrong_figure_or_a_mark_elsewhere_is_found(with_all: Manifest) -> None:
    content, found = report_of(with_all).decode(), figures_of(with_all).found
    figure = f'data-path="metrics.test.mape" data-kind="percent">{100 * with_all.metrics.test.mape:.1f}'
    dot = re.search(r'<circle class="dot" cx="[\d.]+" cy="([\d.]+)" r="4" data-x="evidence.levels.3', content)
    assert figure in content
    assert dot is not None

    changed = content.replace(figure, figure[:-1] + str((int(figure[-1]) + 1) % 10), 1)
    moved = content.replace(dot[0], dot[0].replace(f'cy="{dot[1]}"', f'cy="{float(dot[1]) + 0.3:.1f}"'))

    assert [item.path for item in wrong(Page(changed), found)] == ["metrics.test.mape"]  # type: ignore[attr-defined]
    assert [item.path for item in wrong(Page(moved), found)] == ["evidence.levels.3.coverage"]  # type: ignore[attr-defined]


def test_a_figure_without_its_path_is_found() -> None:
    assert Page("<table><tr><td>12 sales</td></tr></table>").unmarked == ["12 sales"]


def test_equal_manifests_give_equal_pages(manifest: Manifest) -> None:
    assert report_of(Manifest.parse(manifest.to_bytes())) == report_of(manifest)


def test_the_page_needs_nothing_but_itself(manifest: Manifest) -> None:
    content = report_of(manifest)
    page = Page(content.decode())
    style = re.findall(rb"<style>(.*?)</style>", content, re.DOTALL)
    (policy,) = (found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(style[0]).digest()).decode()

    assert len(content) < MAX_BYTES
    assert len(style) == 1
    assert b"url(" not in style[0]
    assert b"@import" not in style[0]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"
    for tag, found in page.tags:
        assert tag not in {"script", "iframe", "object", "form", "img", "image", "use", "foreignobject"}
        assert not [name for name in found if name == "style" or name.startswith("on") or name == "src"]
        assert re.match(r"#|data:,$", found.get("href", "#"))


def test_names_of_the_data_are_text_and_never_markup(with_all: Manifest) -> None:
    known = with_all.columns[1]
    named = known.categories[0].model_copy(update={"value": HOSTILE, "rows": 10_000})
    zips = known.model_copy(update={"categories": (named, *known.categories[1:])})
    evidence = with_all.evidence
    assert evidence is not None
    group = evidence.columns[0].groups[0].model_copy(update={"group": HOSTILE})
    first = evidence.columns[0].model_copy(update={"groups": (group,), "name": HOSTILE})
    changed = with_all.model_copy(
        update={
            "columns": (with_all.columns[0], zips, *with_all.columns[2:]),
            "data": with_all.data.model_copy(update={"source": HOSTILE}),
            "evidence": evidence.model_copy(update={"columns": (first,)}),
        }
    )

    page, found = read(changed)

    assert wrong(page, found) == []
    assert [tag for tag, _ in page.tags if tag in {"script", "img"}] == []
    assert [shown.text for shown in page.shown].count(HOSTILE) > 2  # the source, the group, the audited owner


def test_headings_are_in_order_and_ids_unique(manifest: Manifest) -> None:
    page, _ = read(manifest)
    levels = [level for level, _ in page.headings]
    ids = [found["id"] for _, found in page.tags if "id" in found]
    anchors = [found["href"][1:] for tag, found in page.tags if tag == "a"]
    labels = " ".join(found.get("aria-labelledby", "") for _, found in page.tags).split()

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(ids) == len(set(ids))
    assert {*anchors, *labels} <= set(ids)
    assert ("html", {"lang": "en"}) in page.tags


def test_every_chart_has_a_name_and_every_heading_of_a_table_a_scope(manifest: Manifest) -> None:
    page, _ = read(manifest)

    for tag, found in page.tags:
        if tag == "svg":
            assert found.get("aria-hidden") == "true" or (found["role"] == "img" and found["aria-labelledby"])
        if tag == "th":
            assert found["scope"] in {"col", "row"}


def test_a_group_that_is_too_small_has_no_figures_but_its_number_of_sales(with_all: Manifest) -> None:
    evidence = with_all.evidence
    assert evidence is not None
    (owner, _) = evidence.audits

    assert [group.group for group in owner.too_small] == ["rare"]
    assert {study.group for study in owner.studies} == {"(unknown)", "a", "b", HOSTILE}
    shown = [shown for shown in read(with_all)[0].shown if shown.path.startswith("evidence.audits.0.too_small")]
    assert [found.path.rpartition(".")[2] for found in shown] == ["group", "rows"]


def test_the_auditors_see_the_five_factors(manifest: Manifest) -> None:
    page, _ = read(manifest)
    factors = [text for level, text in page.headings if re.match(r"\d\. ", text)]

    assert len(factors) == 5
    assert "compliant" not in report_of(manifest).decode().lower()


def test_the_figures_as_json_are_those_of_the_manifest(with_all: Manifest) -> None:
    found = orjson.loads(figures_as_json(with_all))

    whole = orjson.loads(with_all.to_bytes())
    assert found == {name: whole[name] for name in found}
    assert found["metrics"]["test"]["mape"] == with_all.metrics.test.mape


def test_a_figure_knows_its_path() -> None:
    found = Figure("", {"a": [{"b": 1.5}]})

    assert (found.a[0].b.path, found.a[0].b.found) == ("a.0.b", 1.5)
    assert [item.path for item in found.a] == ["a.0"]
    assert found.missing.found is None


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_report_opens_from_disk_and_keeps_the_rules_of_every_page(
    with_all: Manifest, tmp_path: Path, scheme: str, viewport: dict[str, int]
) -> None:
    file = tmp_path / "report.html"
    file.write_bytes(report_of(with_all))
    with chromium() as browser, watched(browser) as tabs:
        page = tabs.open(file.as_uri(), color_scheme=scheme, viewport=viewport)
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        found = Axe().run(page).response["violations"]
        page.screenshot(path=tmp_path / f"report-{scheme}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        colors = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []
    assert wide <= 0
    assert (colors == "rgb(255, 255, 255)") == (scheme == "light")  # its style is applied
    assert [request.url for request in tabs.requests] == [file.as_uri()]
