"""From a manifest to the page, and to the same figures as JSON."""

import base64
import hashlib
from pathlib import Path
from typing import Final

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pricing.artifacts.evidence import MIN_GROUP
from pricing.artifacts.manifest import Manifest
from pricing.artifacts.study import STANDARD, Study
from report import charts
from report.figures import FILTERS, PRINTED, Figure, figures_of
from report.svg import bar

HERE: Final = Path(__file__).parent / "templates"
MEASURES: Final = {
    "median_ratio": ("Median ratio", "three"),
    "cod": ("COD", "one"),
    "prd": ("PRD", "three"),
    "prb": ("PRB", "three"),
    "mki": ("MKI", "three"),
    "vei": ("VEI", "one"),
}
"""Names of the measures of a ratio study, and how each is printed."""
FIGURES: Final = (
    "version",
    "created_at",
    "family",
    "seed",
    "data",
    "metrics",
    "calibration",
    "recalibrated",
    "evidence",
    "parity",
    "graph",
)
"""Parts of a manifest that the page shows."""


def report_of(manifest: Manifest) -> bytes:
    """The page; equal manifests give equal bytes."""
    style = (HERE / "style.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = (
        _environment()
        .get_template("report.html")
        .render(
            m=figures_of(manifest),
            style=Markup(style),  # noqa: S704 -- a file of ours
            style_digest=digest,
            standard=STANDARD,
            measures=MEASURES,
            meanings={name: Study.model_fields[name].description for name in MEASURES},
            min_group=MIN_GROUP,
            charts=charts,
        )
    )
    return page.encode()


def figures_as_json(manifest: Manifest) -> bytes:
    """The figures of the page, one line of JSON."""
    return orjson.dumps(manifest.model_dump(mode="json", include=set(FIGURES)))


def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {**FILTERS, "bar": _bar, "bar_of": _bar_of, "constant": PRINTED["plain"], "at_level": _at_level}
    found.globals["within"] = _within
    return found


def _bar(figure: Figure, all_of: Figure, name: str) -> Markup:
    """A bar beside `figure`, as long as its share of the largest figure of that name in the table."""
    values = [item[name].found for item in all_of if item[name].found is not None]
    return Markup() if figure.found is None else bar(figure, max(values, default=0.0))


def _bar_of(figure: Figure, all_of: Figure) -> Markup:
    """The same for a list of figures."""
    return bar(figure, max(all_of.found))


def _at_level(held: Figure, level: float) -> Figure | None:
    return next((found for found in held if found.level.found == level), None)


def _within(figure: Figure, low: float, high: float) -> str:
    """Whether a measure is within the range of the standard."""
    if figure.found is None:
        return ""
    return "yes" if low <= figure.found <= high else "no"
