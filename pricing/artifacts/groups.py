"""Which fields of a version belong together when a price is explained, or a column is shown among others.

* A version that knows the five fields only has each of them as its own group.
* A version with columns has at most MAX_GROUPS groups. A column belongs to the group that the columns file names.
  Names of groups that differ in case only are one.
* Without one, its name decides, by the first line of WORDS that has a word of it: `lot_square_feet` is land, since land
  stands before size. What no line knows is "other".
* If there are more groups, the last ones of the input become "other".
"""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

from pricing.artifacts.columns import OptionalColumn
from pricing.house import FEATURES

MAX_GROUPS: Final = 8
OTHER: Final = "other"
WORDS: Final[dict[str, str]] = {
    "land": "lot land acre acres acreage parcel plot frontage",
    "view": "view views waterfront beach shore",
    "quality": "quality grade class material materials finish roof kitchen heating cooling",
    "age and condition": "age year built yr renovated renovation remodeled remodel condition",
    "rooms": "bed beds bedroom bedrooms bath baths bathroom bathrooms room rooms floors stories storeys levels",
    "size": "square feet sqft footage area living size basement garage floor volume",
    "location": "distance city latitude longitude lat lon lng long zip zipcode postal postcode county district "
    "neighborhood neighbourhood region tract street school town x y",
}
"""Words of a name, by the group that they decide: `lot_area`, `LotArea` and `Lot Area` have the same ones."""


class Group(NamedTuple):
    """Fields and columns that belong together."""

    name: str
    fields: tuple[str, ...]
    places: tuple[int, ...]
    """Of the fields, in the input of the graph."""


def groups_of(columns: Sequence[OptionalColumn]) -> tuple[Group, ...]:
    """The groups of a version with these columns, in the order of its input; each place is in one of them."""
    names = (*FEATURES, *(column.name for column in columns))
    if not columns:
        return tuple(Group(name, (name,), (place,)) for place, name in enumerate(names))
    wishes = chain((None for _ in FEATURES), (column.group for column in columns))
    found: dict[str, list[int]] = {}
    spelled: dict[str, str] = {}
    for place, (name, wish) in enumerate(zip(names, wishes, strict=True)):
        group = (wish or "").strip() or group_of(name)
        found.setdefault(spelled.setdefault(group.casefold(), group), []).append(place)
    return tuple(
        Group(name, tuple(names[place] for place in places), tuple(places)) for name, places in _fewer(found).items()
    )


def group_of(name: str) -> str:
    """The group of a column by its name alone."""
    words = {word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)}
    return next((group for group, known in WORDS.items() if words & set(known.split())), OTHER)


def _fewer(found: dict[str, list[int]]) -> dict[str, list[int]]:
    if len(found) <= MAX_GROUPS:
        return found
    kept = [name for name in found if name != OTHER][: MAX_GROUPS - 1]
    rest = sorted(chain.from_iterable(places for name, places in found.items() if name not in kept))
    return {name: found[name] for name in kept} | {OTHER: rest}
