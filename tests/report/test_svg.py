"""Axes and elements of the charts."""

import pytest
from markupsafe import Markup

from report.svg import Axis, tag


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 1, 0, 100), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Axis(0.9, 1.0, 0, 100), [0.9, 0.92, 0.94, 0.96, 0.98, 1.0]),
        (Axis(-122.5, -121.9, 0, 100), [-122.4, -122.2, -122.0]),
        (Axis(90, 2_100, 0, 100, is_log=True), [100, 200, 500, 1_000, 2_000]),
        (Axis(200_000, 750_000, 0, 100, is_log=True), [200_000, 400_000, 600_000]),
    ],
)
def test_ticks_are_round_and_within_the_axis(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


def test_an_axis_maps_its_ends_and_the_middle() -> None:
    assert [Axis(10, 30, 100, 0).at(value) for value in (10, 20, 30)] == [100, 50, 0]
    assert [Axis(1, 100, 0, 10, is_log=True).at(value) for value in (1, 10, 100)] == pytest.approx([0, 5, 10])


def test_attributes_and_texts_are_escaped() -> None:
    found = tag("text", "<b>&", class_='"x"', data_path="a.b", x=1.23, y=None)

    assert found == Markup('<text class="&#34;x&#34;" data-path="a.b" x="1.2">&lt;b&gt;&amp;</text>')
    assert tag("rect", height=2.0) == '<rect height="2"/>'
