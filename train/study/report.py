"""A ratio study as a table, beside the ranges of the standard."""

from collections.abc import Iterable
from typing import Final

from rich.table import Table

from pricing.artifacts.study import STANDARD, Measure, Study

DIGITS: Final = {"median_ratio": 3, "cod": 1, "prd": 3, "prb": 3, "mki": 3, "vei": 1}


def of_all(study: Study) -> Table:
    """Each measure of one study with its interval and its range."""
    table = Table(title=f"ratio study of {study.rows:,} sales", title_justify="left")
    for heading in ("measure", "value", "95 % interval", "standard", "within"):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for name, (low, high) in STANDARD.items():
        measure: Measure = getattr(study, name)
        digits = DIGITS[name]
        interval = "" if measure.lower is None else f"{measure.lower:.{digits}f} to {measure.upper:.{digits}f}"
        within = "" if measure.value is None else "yes" if low <= measure.value <= high else "no"
        table.add_row(name, _text(measure, digits), interval, f"{low:g} to {high:g}", within)
    return table


def of_groups(title: str, studies: Iterable[Study | tuple[str, int]]) -> Table:
    """One line for each group; measures of vertical equity need all prices, so they are not in it."""
    table = Table(title=title, title_justify="left")
    for heading in ("group", "sales", "median_ratio", "cod", "PPE10", "PPE20", "MdAPE", "FSD holds"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for found in studies:
        if isinstance(found, tuple):
            table.add_row(found[0], str(found[1]), "too small")
            continue
        measures = [_text(getattr(found, name), DIGITS[name]) for name in ("median_ratio", "cod")]
        shares = [found.ppe10, found.ppe20, found.mdape, found.fsd_coverage]
        cells = ["" if share is None else f"{share:.1%}" for share in shares]
        table.add_row(found.group, f"{found.rows:,}", *measures, *cells)
    return table


def _text(measure: Measure, digits: int) -> str:
    return "" if measure.value is None else f"{measure.value:.{digits}f}"
