"""The charts of the report: each takes figures of a manifest and returns a drawing."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from pricing.artifacts.evidence import QUANTILES
from report.figures import PRINTED, Figure, printed
from report.svg import Axis, Chart, tag

WIDTH: Final = 460
HEIGHT: Final = 330
LEFT: Final = 64.0
TOP: Final = 40.0
SMALL: Final = (300, 210)
CELL: Final = 50.0
RATIO_STEPS: Final = (0.9, 0.95, 0.98, 1.02, 1.05, 1.1)
"""Bounds of the seven colors of the map, around a ratio of 1."""
MEDIAN: Final = QUANTILES.index(0.5)


def _dollars(value: float) -> str:
    if value >= 1e6:  # noqa: PLR2004 -- a million
        return f"${value / 1e6:g}M"
    return f"${value / 1e3:g}k" if value >= 1e3 else f"${value:g}"  # noqa: PLR2004 -- a thousand


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _axes(x: tuple[float, float], y: tuple[float, float], *, is_log: bool = False) -> tuple[Axis, Axis]:
    right, bottom = WIDTH - 16.0, HEIGHT - 50.0
    return Axis(*x, LEFT, right, is_log), Axis(*y, bottom, TOP, is_log)


def _room(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Bounds around values, with some room."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def sold_against_predicted(bands: Figure) -> Markup:
    """Sale prices of each band: the middle half, four fifths, and the median, over the median prediction."""
    values = [value for band in bands for value in (*band.sold.found, band.predicted.found)]
    bounds = min(values) / 1.1, max(values) * 1.1
    chart = Chart(
        "bands",
        "Sale prices against predicted prices",
        "For each group by predicted price: the median sale price, the middle half and the middle four fifths. "
        "On the dashed line, the sale price is the predicted one.",
        *_axes(bounds, bounds, is_log=True),
    )
    ticks = [(value, _dollars(value)) for value in chart.x.ticks()]
    chart.frame(ticks, ticks, ("predicted price (logarithmic)", "sale price (logarithmic)"))
    chart.reference([(bounds[0], bounds[0]), (bounds[1], bounds[1])])
    for band in bands:
        chart.range(band.predicted, band.sold[0], band.sold[len(QUANTILES) - 1], "whisker")
        chart.range(band.predicted, band.sold[1], band.sold[len(QUANTILES) - 2], "box")
        chart.dot(band.predicted, band.sold[MEDIAN])
    return chart.svg(WIDTH, HEIGHT)


def coverage_by_level(levels: Figure) -> Markup:
    """The share of the prices within the interval at each level."""
    coverages = [held.coverage.found for held in levels]
    low = min(0.45, *coverages) - 0.02
    bounds = low, max(1.0, *coverages) + 0.01
    chart = Chart(
        "coverage",
        "Coverage of the interval against its level",
        "On the dashed line, the interval contains the sale price exactly as often as it states.",
        *_axes(bounds, bounds),
    )
    ticks = [(value, _percent(value)) for value in chart.x.ticks()]
    chart.frame(ticks, ticks, ("level", "share of the sale prices within"))
    chart.reference([(low, low), (1.0, 1.0)])
    for held in levels:
        chart.dot(held.level, held.coverage)
    return chart.svg(WIDTH, HEIGHT)


def width_by_level(levels: Figure) -> Markup:
    """The width of the interval at each level."""
    widths = [held.median_width.found for held in levels]
    chart = Chart(
        "width",
        "Median width of the interval against its level",
        "The width is the difference of both bounds, as a share of the predicted price.",
        *_axes((0.43, 1.01), (0.0, max(widths) * 1.08)),
    )
    ticks = [(value, _percent(value)) for value in chart.x.ticks()]
    chart.frame(ticks, [(value, _percent(value)) for value in chart.y.ticks()], ("level", "width, share of the price"))
    chart.curve([(held.level.found, held.median_width.found) for held in levels])
    for held in levels:
        chart.dot(held.level, held.median_width)
    return chart.svg(WIDTH, HEIGHT)


def later_coverage(origins: Figure) -> Markup:
    """Coverage by months ahead, a dot for each origin and level."""
    found = [month for origin in origins for month in origin.months]
    shares = [share for month in found for share in month.coverage.found]
    levels = [level for month in found[:1] for level in month.levels.found]
    bounds = _room([*shares, *levels])
    months = sorted({month.month.found for month in found})
    x, y = _axes((months[0] - 0.5, months[-1] + 0.5), bounds)
    about = "A dot for each past date and month ahead. The dashed lines are the levels that were asked for."
    chart = Chart("later-coverage", "Coverage on later sales", about, x, y)
    ticks = [(float(month), str(month)) for month in months]
    chart.frame(ticks, [(v, _percent(v)) for v in y.ticks()], ("months ahead", "share of the sale prices within"))
    for level in levels:
        chart.reference([(x.low, level), (x.high, level)])
        chart.text(x.end, y.at(level) - 6, f"asked for {_percent(level)}", "end")
    for place, origin in enumerate(origins):
        for month in origin.months:
            for coverage in month.coverage:
                chart.dot(_aside(month.month, place, len(origins)), coverage)
    return chart.svg(WIDTH, HEIGHT)


def later_ratio(origins: Figure) -> Markup:
    """The median ratio by months ahead, a dot for each origin."""
    found = [month for origin in origins for month in origin.months]
    bounds = _room([1.0, *(month.median_ratio.found for month in found)], 0.2)
    months = sorted({month.month.found for month in found})
    x, y = _axes((months[0] - 0.5, months[-1] + 0.5), bounds)
    about = "A dot for each past date and month ahead. On the dashed line, predictions keep the level of the prices."
    chart = Chart("later-ratio", "Median ratio on later sales", about, x, y)
    ticks = [(float(month), str(month)) for month in months]
    chart.frame(
        ticks, [(v, PRINTED["plain"](v)) for v in y.ticks()], ("months ahead", "predicted / sale price, median")
    )
    chart.reference([(x.low, 1.0), (x.high, 1.0)])
    for place, origin in enumerate(origins):
        for month in origin.months:
            chart.dot(_aside(month.month, place, len(origins)), month.median_ratio)
    return chart.svg(WIDTH, HEIGHT)


def _aside(month: Figure, place: int, count: int) -> float:
    """Beside the month, so that dots of several dates do not hide each other."""
    return float(month.found) + 0.14 * (place - (count - 1) / 2)


def dependence(effect: Figure, effects: Figure, number: int) -> Markup:
    """Prices over the values of one column, on an axis that all columns share."""
    prices = [price for other in effects for price in other.prices.found]
    width, height = SMALL
    x = Axis(*_room(effect.values.found, 0.03), LEFT, width - 14.0)
    y = Axis(min(prices) / 1.05, max(prices) * 1.05, height - 46.0, TOP, is_log=True)
    about = "The geometric mean of the predicted prices if every test sale had this value."
    chart = Chart(f"effect-{number}", f"Predicted price by {effect.name}", about, x, y)
    ticks = [(value, PRINTED["plain"](value)) for value in x.ticks(4)]
    chart.frame(ticks, [(value, _dollars(value)) for value in _few(y.ticks())], (str(effect.name), "price"))
    chart.curve(list(zip(effect.values.found, effect.prices.found, strict=True)))
    for value, price in zip(effect.values, effect.prices, strict=True):
        chart.dot(value, price)
    return chart.svg(width, height, "chart small")


def _few(ticks: list[float]) -> list[float]:
    return ticks if len(ticks) <= 4 else ticks[:: -(-len(ticks) // 4)]  # noqa: PLR2004 -- labels that fit


def place_map(place: Figure) -> Markup:
    """Median ratios by place: a colored cell for each, north up."""
    columns, rows = len(place.x_edges) - 1, len(place.y_edges) - 1
    x = Axis(0.0, columns, LEFT, LEFT + columns * CELL)
    y = Axis(0.0, rows, TOP + rows * CELL, TOP)
    about = "Each cell shows the median ratio of predicted price to sale price. Cells with too few sales are empty."
    chart = Chart("map", "Median ratio by place", about, x, y)
    ends = [(0.0, place.x_edges[0]), (float(columns), place.x_edges[columns])]
    sides = [(0.0, place.y_edges[0]), (float(rows), place.y_edges[rows])]
    across, up = ([(at, printed(edge, "plain")) for at, edge in pair] for pair in (ends, sides))
    chart.frame(across, up, (str(place.x_name), str(place.y_name)))
    chart.add(tag("rect", class_="map", x=LEFT, y=TOP, width=columns * CELL, height=rows * CELL))
    for cell in place.cells:
        left, top = x.at(cell.x.found), y.at(cell.y.found + 1)
        step = sum(cell.median_ratio.found >= bound for bound in RATIO_STEPS)
        square = {"x": left + 1, "y": top + 1, "width": CELL - 2, "height": CELL - 2}
        chart.add(tag("rect", class_=f"ratio-{step}", **square))
        marks = {"data_path": cell.median_ratio.path, "data_kind": "two", "text_anchor": "middle", "class_": "cell"}
        chart.add(tag("text", printed(cell.median_ratio, "two"), x=left + CELL / 2, y=top + CELL / 2 + 5, **marks))
    return chart.svg(int(LEFT + columns * CELL + 30), int(TOP + rows * CELL + 50))


def ratio_range(measure: Figure, low: float, high: float) -> Markup:
    """A measure with its interval, over the range of the standard."""
    if measure.value.found is None:
        return Markup()
    values = [figure.found for figure in (measure.lower, measure.value, measure.upper) if figure.found is not None]
    room = (high - low) / 2
    axis = Axis(min(low - room, *values), max(high + room, *values), 4.0, 156.0)
    parts = [
        tag("rect", class_="standard", x=axis.at(low), y=2, width=axis.at(high) - axis.at(low), height=16),
        tag("circle", class_="dot", cx=axis.at(measure.value.found), cy=10, r=4, data_x=measure.value.path),
    ]
    if measure.lower.found is not None:
        ends = {"x1": axis.at(measure.lower.found), "x2": axis.at(measure.upper.found)}
        paths = {"data_x1": measure.lower.path, "data_x2": measure.upper.path}
        parts.insert(1, tag("line", class_="whisker", y1=10, y2=10, **ends, **paths))
    box = {"viewBox": "0 0 160 20", "width": 160, "height": 20}
    return tag("svg", *parts, class_="range", aria_hidden="true", data_axis_x=str(axis), **box)
