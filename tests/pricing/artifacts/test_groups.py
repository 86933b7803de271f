"""Fields that belong together: by the columns file, by their names, and never more groups than can be computed."""

import pytest

from pricing.artifacts.columns import OptionalColumn
from pricing.artifacts.groups import MAX_GROUPS, OTHER, WORDS, Group, group_of, groups_of
from pricing.house import FEATURES


def column(name: str, group: str | None = None) -> OptionalColumn:
    return OptionalColumn(
        name=name, kind="number", group=group, missing=0.0, trained_from=0.0, trained_to=1.0, bins=(0.0, 1.0)
    )


def fields(*columns: OptionalColumn) -> dict[str, tuple[str, ...]]:
    return {group.name: group.fields for group in groups_of(columns)}


def test_the_five_fields_alone_are_groups_of_their_own() -> None:
    assert groups_of(()) == tuple(Group(name, (name,), (place,)) for place, name in enumerate(FEATURES))


def test_columns_join_the_fields_by_their_names() -> None:
    names = ("latitude", "zip_code", "grade", "condition", "view", "waterfront", "lot_square_feet", "pets")

    assert fields(*map(column, names)) == {
        "size": ("square_feet",),
        "rooms": ("bedrooms", "bathrooms"),
        "age and condition": ("age_years", "condition"),
        "location": ("distance_to_city", "latitude", "zip_code"),
        "quality": ("grade",),
        "view": ("view", "waterfront"),
        "land": ("lot_square_feet",),
        "other": ("pets",),
    }


def test_the_columns_file_decides_before_the_name_does() -> None:
    found = fields(column("latitude", "Sun"), column("grade", " Location "), column("view", ""))

    assert found["Sun"] == ("latitude",)
    assert found["location"] == ("distance_to_city", "grade")  # however it is spelled
    assert found["view"] == ("view",)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("LotArea", "land"),
        ("GrLivArea", "size"),
        ("TOTAL SQFT", "size"),
        ("yr_built", "age and condition"),
        ("zip-code", "location"),
        ("OverallQual", OTHER),
        ("bath2", "rooms"),
        ("alone", OTHER),  # it contains a word, and is none
        ("_", OTHER),
    ],
)
def test_a_name_is_taken_apart_into_words(name: str, group: str) -> None:
    assert group_of(name) == group


def test_the_rule_alone_makes_no_more_groups_than_there_may_be() -> None:
    assert len({*WORDS, OTHER}) == MAX_GROUPS


@pytest.mark.parametrize("named", [4, 5, 60])
def test_of_too_many_groups_the_last_ones_are_other(named: int) -> None:
    groups = groups_of([column(f"c{number}", f"g{number}") for number in range(named)])

    assert len(groups) == min(MAX_GROUPS, 4 + named)
    assert sorted(place for group in groups for place in group.places) == list(range(5 + named))
    if named > 4:
        assert groups[-1].name == OTHER
        assert groups[-1].fields[0] == "c3"


def test_other_is_the_rest_also_if_it_has_been_named_before() -> None:
    columns = [column("c", OTHER), *(column(f"c{number}", f"g{number}") for number in range(9))]

    groups = groups_of(columns)

    assert [group.name for group in groups].count(OTHER) == 1
    assert groups[-1].fields[:2] == ("c", "c3")
