"""The list of benchmarks is made from the benchmarks."""

from benchmarks.__main__ import measurable


def test_every_command_is_listed_with_a_line_about_it() -> None:
    found = measurable()
    assert {"compare", "releases", "request", "environ", "differential"} <= set(found)
    assert all(about.strip() for about in found.values())
    assert "chart" not in found  # no command
