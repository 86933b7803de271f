"""A bar chart as SVG, which GitHub shows as it is, in light and in dark."""

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH, ROW, LEFT, RIGHT = 720, 28, 270, 80


def bars(title: str, values: "Mapping[str, float]") -> str:
    """Return the chart: a bar for each value, in order; the first one is the one that matters."""
    most, height = max(values.values()), ROW * (len(values) + 1) + 8
    rows = []
    for number, (name, value) in enumerate(values.items(), 1):
        y, length = number * ROW, max(value / most * (WIDTH - LEFT - RIGHT), 1)
        color = "#2f7d5b" if number == 1 else "#8a94a3"
        rows.append(
            f'<text x="{LEFT - 8}" y="{y + 19}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LEFT}" y="{y + 5}" width="{length:.0f}" height="{ROW - 10}" rx="2" fill="{color}"/>'
            f'<text x="{LEFT + length + 6:.0f}" y="{y + 19}">{value:,.0f}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        f' font-size="13" fill="#7a8491" role="img" aria-label="{escape(title)}">'
        f'<text x="8" y="19" font-weight="bold">{escape(title)}</text>' + "".join(rows) + "</svg>\n"
    )
