"""The progress of a training: a line for each step and, on a terminal, a bar with the time left."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn
from rich.progress import ProgressColumn as RichColumn
from rich.text import Text

from train.models.family_names import FAMILY_NAMES, FamilyName
from train.models.learning import Tell
from train.promotion.rolling_origin import ORIGINS
from train.sales.columns import ColumnChoice
from train.sales.rows import Sales


class Step(NamedTuple):
    """A step by the beginning of its sentence, and its share of the time, measured on 20,000 sales."""

    beginning: str
    share: float


CROSS_VALIDATION: Final = Step("cross-validating", 10)
REST: Final = (Step("fitting", 3), Step("converting", 6), Step("certifying", 1), Step("measuring", 1))
ORIGIN: Final = Step("rolling origin", 11)
JUDGING: Final = Step("judging", 1)
GATHERING: Final = Step("gathering", 1)


def steps(sales: Sales, family: FamilyName | None, columns: ColumnChoice, *, judged: bool = False) -> tuple[Step, ...]:
    """The steps of a training in their order; one that does not come is passed over."""
    # with columns, only one family competes, and again if some of them are left out
    cross_validations = 2 if columns else 1 if family else len(FAMILY_NAMES)
    origins = () if sales.sold_on is None else (ORIGIN,) * ORIGINS
    return (*(CROSS_VALIDATION,) * cross_validations, *REST, *origins, *((JUDGING,) if judged else ()), GATHERING)


class TimeLeft(RichColumn):
    """Counts down: what is left of the shares, at the pace of the steps that are done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._begun = self._moved = clock()
        self._done = 0.0

    def render(self, task: Task) -> Text:
        """`about 1:05 left`; nothing before the first step is done."""
        now = self._clock()
        if task.completed != self._done:
            self._done, self._moved = task.completed, now
        if not self._done or task.total is None:
            return Text("")
        expected = (self._moved - self._begun) * (task.total - self._done) / self._done
        left = round(max(0.0, expected - (now - self._moved)))
        return Text(f"about {left // 60}:{left % 60:02} left", style="progress.remaining")


def step_of(sentence: str, expected: Sequence[Step], place: int) -> int | None:
    """The place of the step that a sentence begins, from `place` on; None if it states a result."""
    later = range(place, len(expected))
    return next((number for number in later if sentence.startswith(expected[number].beginning)), None)


@contextmanager
def progress(console: Console, expected: tuple[Step, ...]) -> Iterator[Tell]:
    """Yield the function that gets a sentence at the beginning of each step."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeLeft())
    place = 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=sum(step.share for step in expected))

        def tell(sentence: str) -> None:
            nonlocal place
            console.print(f"  {sentence}")
            begun = step_of(sentence, expected, place)
            if begun is not None:
                place = begun + 1
                bar.update(task, description=sentence, completed=sum(step.share for step in expected[:begun]))

        yield tell
