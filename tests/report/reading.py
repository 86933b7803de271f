"""The report as it is read: figures with their paths, marks of charts, and what has no mark."""

import math
import re
from html.parser import HTMLParser
from typing import Any, Final, NamedTuple

from report.figures import NOT_DEFINED

VOID: Final = {"meta", "link", "br"}
MINUS: Final = "\N{MINUS SIGN}"
PIXEL: Final = 0.051
"""Of the drawing: positions are written with one digit."""
SHOWN: Final = ("cx", "cy", "x1", "x2", "y1", "y2", "width")


class Shown(NamedTuple):
    """A figure as it is printed."""

    path: str
    kind: str
    text: str


class Mark(NamedTuple):
    """A point of a chart that stands for a figure: where it is, and the axis that it is on."""

    path: str
    at: float
    axis: str


class Page(HTMLParser):
    """What stands on a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shown: list[Shown] = []
        self.marks: list[Mark] = []
        self.unmarked: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.headings: list[tuple[int, str]] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        self._marks(found)
        if tag not in VOID:
            self._open.append((tag, found))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        self._marks(found)

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        if not data.strip() or not self._open:
            return
        inner, found = self._open[-1]
        if re.fullmatch(r"h[1-6]", inner):
            self.headings.append((int(inner[1]), data))
        if "data-path" in found:
            self.shown.append(Shown(found["data-path"], found["data-kind"], data))
            return
        is_cell = any(tag in {"td", "dd"} for tag, _ in self._open)
        is_drawn = any(tag == "svg" for tag, _ in self._open)
        if is_cell and not is_drawn and "data-constant" not in found and re.search(r"\d", data):
            self.unmarked.append(data.strip())

    def _marks(self, found: dict[str, str]) -> None:
        """Of `data-y`, the position is in `cy`; of `data-x1`, in `x1`."""
        for name in SHOWN:
            path = found.get(f"data-{name.removeprefix('c')}")
            if path is not None and name in found:
                chart = next(attributes for tag, attributes in reversed(self._open) if tag == "svg")
                direction = "y" if "y" in name else "x"
                self.marks.append(Mark(path, float(found[name]), chart[f"data-axis-{direction}"]))


def read_back(shown: Shown) -> float | str | None:
    """The value that a text states."""
    if shown.text == NOT_DEFINED:
        return None
    text = shown.text.replace(MINUS, "-").replace(",", "").replace("$", "").replace("\N{NO-BREAK SPACE}", "")
    match shown.kind:
        case "text":
            return shown.text
        case "moment":
            return text.removesuffix(" UTC")
        case "percent" | "level":
            return float(text.removesuffix("%")) / 100
        case _:
            return float(text)


DIGITS: Final = {
    "percent": 3,
    "level": 2,
    "dollars": 0,
    "count": 0,
    "number_of": 0,
    "one": 1,
    "two": 2,
    "three": 3,
    "change": 4,
}


def at(manifest: Any, path: str) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """The value of a manifest, as JSON, at a path."""
    for part in path.split("."):
        manifest = manifest[int(part)] if isinstance(manifest, list) else manifest[part]
    return manifest


def is_right(shown: Shown, expected: Any) -> bool:  # noqa: ANN401 -- whatever JSON holds
    """Whether a printed figure is the expected value, at the precision with which it is printed."""
    found = read_back(shown)
    if found is None or expected is None:
        return found is expected
    if shown.kind == "text":
        return bool(found == str(expected))
    if shown.kind == "moment":
        return str(expected).replace("T", " ").startswith(str(found))
    value = len(expected) if shown.kind == "number_of" else expected
    if shown.kind == "plain":  # six digits
        return math.isclose(float(found), value, rel_tol=1e-5, abs_tol=1e-9)
    return bool(abs(float(found) - value) <= 0.5001 * 10.0 ** -DIGITS[shown.kind])


def is_there(mark: Mark, expected: float) -> bool:
    """Whether a point is where the axis has the value."""
    kind, low, high, start, end = mark.axis.split()
    ends = [float(low), float(high), expected]
    first, last, value = map(math.log, ends) if kind == "log" else ends
    where = float(start) + (value - first) / (last - first) * (float(end) - float(start))
    return abs(where - mark.at) <= PIXEL
