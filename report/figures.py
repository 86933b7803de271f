"""Figures of a manifest that know their path in it, and how each kind is printed."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from markupsafe import Markup

from pricing.artifacts.manifest import Manifest

Found: TypeAlias = Any  # whatever JSON holds

NOT_DEFINED: Final = "–"  # noqa: RUF001 -- the dash that tables have for no value
SPACE: Final = "\N{NO-BREAK SPACE}"


class Figure:
    """A value of the manifest: `figure.mape` and `figure[0]` are those inside it, each with its own path."""

    def __init__(self, path: str, found: Found) -> None:
        self._path = path
        self._found = found

    def __getattr__(self, name: str) -> "Figure":
        if name.startswith("__"):  # of Python's own protocols
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str | int) -> "Figure":
        found = self._found.get(name) if isinstance(self._found, dict) else self._found[name]
        return Figure(f"{self._path}.{name}" if self._path else str(name), found)

    def __iter__(self) -> Iterator["Figure"]:
        return (self[place] for place in range(len(self)))

    def __len__(self) -> int:
        return len(self._found or ())

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        return str(self._found)

    @property
    def path(self) -> str:
        """Names and places on the way to it, with points between them."""
        return self._path

    @property
    def found(self) -> Found:
        """The value itself."""
        return self._found

    def items(self) -> Iterator[tuple[str, "Figure"]]:
        """The names and values of an object."""
        return ((name, self[name]) for name in self._found)


def figures_of(manifest: Manifest) -> Figure:
    """All of a manifest, and `seal`: the digest of its bytes, by which a deployment names the version."""
    seal = hashlib.sha256(manifest.to_bytes()).hexdigest()
    return Figure("", {"seal": seal, **manifest.model_dump(mode="json")})


def plain(value: float) -> str:
    """A number of any size, with six digits and without an exponent."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"  # noqa: PLR2004 -- where %g changes its form


def _signed(digits: int) -> Callable[[Found], str]:
    return lambda value: f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _number(digits: int) -> Callable[[Found], str]:
    return lambda value: f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


PRINTED: Final[Mapping[str, Callable[[Found], str]]] = {
    "text": str,
    "count": lambda value: f"{value:,}",
    "number_of": lambda value: f"{len(value):,}",
    "percent": lambda value: f"{100 * value:.1f}{SPACE}%",
    "level": lambda value: f"{100 * value:.0f}{SPACE}%",
    "dollars": lambda value: f"${value:,.0f}",
    "one": _number(1),
    "two": _number(2),
    "three": _number(3),
    "change": _signed(4),
    "plain": lambda value: plain(value).replace("-", "\N{MINUS SIGN}"),
    "moment": lambda value: f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M} UTC",
}
"""How a value of each kind is printed."""


def printed(figure: Figure, kind: str) -> str:
    """The text of a figure."""
    return NOT_DEFINED if figure.found is None else PRINTED[kind](figure.found)


def marked(figure: Figure, kind: str) -> Markup:
    """The same in HTML, with its path."""
    return Markup('<span data-path="{}" data-kind="{}">{}</span>').format(figure.path, kind, printed(figure, kind))


def _filter(kind: str) -> Callable[[Figure], Markup]:
    return lambda figure: marked(figure, kind)


FILTERS: Final = {kind: _filter(kind) for kind in PRINTED}
"""For templates: `{{ manifest.metrics.test.mape | percent }}`."""
