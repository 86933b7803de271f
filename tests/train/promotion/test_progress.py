"""The progress of a training: what a terminal shows, and what a pipe gets."""

import io
from typing import Final

import pytest
from rich.console import Console
from rich.progress import Progress

from train.models.training import Plan, train
from train.promotion.progress import Step, TimeLeft, progress, step_of, steps
from train.sales import rows as data

EXPECTED: Final = (Step("first", 10), Step("maybe", 5), Step("last", 5))


def printed(sentences: list[str], *, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with progress(console, EXPECTED) as tell:
        for sentence in sentences:
            tell(sentence)
    return file.getvalue()


def test_a_pipe_gets_a_line_for_each_step_and_nothing_else() -> None:
    assert printed(["first of all", "a result", "last of all"], terminal=False) == (
        "  first of all\n  a result\n  last of all\n"
    )


def test_a_terminal_gets_a_bar_besides() -> None:
    assert "━" in printed(["first of all", "last of all"], terminal=True)


@pytest.mark.parametrize(
    ("seconds", "done", "shown"),
    [
        ([0, 10], [0, 10], "about 0:10 left"),
        ([0, 10, 14], [0, 10, 10], "about 0:06 left"),  # it counts down within a step
        ([0, 10, 99], [0, 10, 10], "about 0:00 left"),
        ([0, 90], [0, 5], "about 4:30 left"),
        ([0, 10], [0, 0], ""),  # without a step that is done, the pace is not known
    ],
)
def test_the_time_left_is_at_the_pace_of_the_steps_that_are_done(
    seconds: list[float], done: list[float], shown: str
) -> None:
    ticks = iter([0.0, *seconds])
    column = TimeLeft(lambda: next(ticks))
    bar = Progress()
    bar.add_task("", total=20)
    (task,) = bar.tasks
    for completed in done:
        task.completed = completed
        text = column.render(task)
    assert text.plain == shown


def test_a_step_that_does_not_come_is_passed_over() -> None:
    assert step_of("last of all", EXPECTED, 1) == 2


def test_a_result_is_not_a_step() -> None:
    assert step_of("a result", EXPECTED, 0) is None


def test_the_steps_of_a_training_come_as_expected() -> None:
    sales, sentences = data.synthetic(seed=0, rows=1_500), list[str]()
    train(sales, Plan("v1.0.0", "0", 0, None), sentences.append)
    expected, place = steps(sales, None, {})[:-1], 0  # the last one is of the report, which is made after it
    for sentence in sentences:
        begun = step_of(sentence, expected, place)
        assert begun in {None, place}, sentence
        place += begun is not None
    assert place == len(expected)
