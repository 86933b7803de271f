"""The progress of a run on a terminal: rows, rows per second, and the time left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class RowsPerSecond(ProgressColumn):
    """The rows of the last parts by the time that they took."""

    def render(self, task: Task) -> Text:
        """`230,000 rows/s`; nothing before the first part is finished."""
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "", style="progress.data.speed")


def progress(
    console: Console | None = None, *, is_silent: bool = False
) -> Callable[[int, int], AbstractContextManager[Callable[[int], None]]]:
    """Shows a bar on stderr if that is a terminal; see `score.run.Progress`."""
    shown = console or Console(file=sys.stderr)

    @contextmanager
    def show(rows: int, finished: int) -> Iterator[Callable[[int], None]]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
            BarColumn(),
            RowsPerSecond(),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        is_off = is_silent or not shown.is_terminal
        with Progress(*columns, console=shown, transient=True, disable=is_off) as bar:
            task = bar.add_task("", total=rows, completed=finished)
            yield lambda more: bar.advance(task, more)

    return show
