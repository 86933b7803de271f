"""Charts as SVG, without style attributes or scripts: colors are classes of the page's style sheet.

A mark that stands for figures has their paths, and its chart has its axes, so that the figures can be read back:
`data-x`, `data-y` and so on name the path of what the attribute `cx` or `cy` shows.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from report.figures import Figure

DIGITS: Final = 1
STEPS: Final = (1, 2, 2.5, 5, 10)
LOG_STEPS: Final = (1, 2, 5)
MIN_TICKS: Final = 3
ROUNDING: Final = 1e-9


def tag(name: str, *inside: str | Markup, **attributes: object) -> Markup:
    """An element; `class_` is the attribute class, `data_x` is data-x, and None is left out."""
    pairs = "".join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _written(value))
        for key, value in attributes.items()
        if value is not None
    )
    opened = Markup("<") + Markup(name) + Markup(pairs)  # noqa: S704 -- names of ours, values escaped above
    if not inside:
        return opened + Markup("/>")
    return opened + Markup(">") + Markup("").join(inside) + Markup("</") + Markup(name) + Markup(">")  # noqa: S704


def _written(value: object) -> object:
    return f"{value:.{DIGITS}f}".removesuffix(".0") if isinstance(value, float) else value


class Axis(NamedTuple):
    """From values to points of the drawing."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """The point of a value."""
        low, high, found = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start + (found - low) / (high - low) * (self.end - self.start)

    def __str__(self) -> str:
        kind = "log" if self.is_log else "linear"
        return f"{kind} {self.low!r} {self.high!r} {self.start!r} {self.end!r}"

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the axis, about so many."""
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [10.0**power * factor for power in powers for factor in LOG_STEPS]
            inside = [value for value in found if self.low <= value <= self.high]
            if len(inside) >= MIN_TICKS:
                return inside
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in STEPS if power * factor >= rough * (1 - ROUNDING))
        numbers = range(math.ceil(self.low / step - ROUNDING), math.floor(self.high / step + ROUNDING) + 1)
        return [number * step for number in numbers]


class Chart:
    """A drawing with two axes."""

    def __init__(self, name: str, title: str, about: str, x: Axis, y: Axis) -> None:
        """`name` is unique on the page; `title` and `about` are for screen readers."""
        self._name, self._title, self._about = name, title, about
        self.x, self.y = x, y
        self._parts: list[Markup] = []

    def add(self, part: Markup) -> None:
        """Draw something."""
        self._parts.append(part)

    def frame(self, x: Sequence[tuple[float, str]], y: Sequence[tuple[float, str]], names: tuple[str, str]) -> None:
        """Lines at values of y, their labels and those of x, and the names of both axes."""
        left, right = sorted((self.x.start, self.x.end))
        top, bottom = sorted((self.y.start, self.y.end))
        for value, label in y:
            at = self.y.at(value)
            self.add(tag("line", class_="rule", x1=left, x2=right, y1=at, y2=at))
            self.text(left - 6, at + 4, label, "end")
        for value, label in x:
            self.text(self.x.at(value), bottom + 18, label, "middle")
        self.text((left + right) / 2, bottom + 38, names[0], "middle")
        self.text(2, top - 20, names[1], "start")

    def text(self, x: float, y: float, words: str, anchor: str, class_: str = "label") -> None:
        """Write something."""
        self.add(tag("text", words, x=x, y=y, text_anchor=anchor, class_=class_))

    def reference(self, ends: Sequence[tuple[float, float]]) -> None:
        """A dashed line through values of both axes."""
        self.add(tag("polyline", class_="reference", points=self._points(ends)))

    def curve(self, points: Sequence[tuple[float, float]], class_: str = "curve") -> None:
        """A line through values of both axes."""
        self.add(tag("polyline", class_=class_, points=self._points(points)))

    def dot(self, x: Figure | float, y: Figure, class_: str = "dot") -> None:
        """A mark at figures."""
        x_value = x.found if isinstance(x, Figure) else x
        paths = {"data_x": x.path if isinstance(x, Figure) else None, "data_y": y.path}
        self.add(tag("circle", class_=class_, cx=self.x.at(x_value), cy=self.y.at(y.found), r=4, **paths))

    def range(self, x: Figure, low: Figure, high: Figure, class_: str) -> None:
        """A line from one figure to another."""
        at = self.x.at(x.found)
        ends = {"y1": self.y.at(low.found), "y2": self.y.at(high.found)}
        self.add(tag("line", class_=class_, x1=at, x2=at, **ends, data_y1=low.path, data_y2=high.path))

    def svg(self, width: int, height: int, class_: str = "chart") -> Markup:
        """The whole drawing."""
        return tag(
            "svg",
            tag("title", self._title, id=f"{self._name}-title"),
            tag("desc", self._about, id=f"{self._name}-about"),
            *self._parts,
            viewBox=f"0 0 {width} {height}",
            width=width,
            height=height,
            role="img",
            aria_labelledby=f"{self._name}-title {self._name}-about",
            class_=class_,
            data_axis_x=str(self.x),
            data_axis_y=str(self.y),
        )

    def _points(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x.at(x):.{DIGITS}f},{self.y.at(y):.{DIGITS}f}" for x, y in points)


def bar(figure: Figure, longest: float) -> Markup:
    """A bar inside a table, beside the figure that it shows; `longest` is the value of a full one."""
    width = 100 * figure.found / longest if longest else 0.0
    drawn = tag("rect", class_="bar", x=0, y=2, height=10, width=float(width), data_width=figure.path)
    axis = Axis(0.0, longest or 1.0, 0.0, 100.0)
    return tag("svg", drawn, viewBox="0 0 100 14", class_="inline", aria_hidden="true", data_axis_x=str(axis))
