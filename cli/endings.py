"""Ends the commands of `appraiser`: with a code that states whether anything has changed, never in a traceback.

* Exit code 1, and 128 + the number of a signal: nothing has changed, or what had changed was taken back.
* CHANGED: the command failed or was interrupted, and something has changed. The sentence names it.
* PIPE_CLOSED: the reader of the output has left, as `head` does, and nothing has changed.
"""

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, Never, TextIO

import click

from pricing.errors import AppraiserError, Stays, Undone
from service.settings import check_platform

FAILED: Final = 1
CHANGED: Final = 5
PIPE_CLOSED: Final = 128 + signal.SIGPIPE
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal has come. Not a KeyboardInterrupt, which click would end with exit code 1."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


class Commands(click.Group):
    """A group whose commands end as the head of this module states."""

    def main(self, *args: Any, **extra: Any) -> Never:  # noqa: ANN401 -- click's own signature
        """Run a command and exit with its code."""
        _prepare_streams()
        with _interruptible() as received:
            code = self._code(received, *args, **{**extra, "standalone_mode": False})
        if (broken := _mute_broken_streams()) is not None and code == 0:
            code = PIPE_CLOSED if isinstance(broken, BrokenPipeError) else FAILED
        sys.exit(code)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:  # noqa: ANN401
        """Parse the command line, which may print help."""
        with _hidden_from_click():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with _hidden_from_click():
            return super().invoke(ctx)

    def _code(self, received: list[int], *args: Any, **extra: Any) -> int:  # noqa: ANN401
        try:
            check_platform()
            found = super().main(*args, **extra)
        except SystemExit as error:
            if isinstance(error.code, str):
                _say(error.code)
                return FAILED
            return int(error.code or 0)
        except click.ClickException as error:
            with suppress(OSError):
                error.show()
            return error.exit_code if not _stays(error) else CHANGED
        except BaseException as error:  # noqa: BLE001 -- the last one to be asked
            return _end((error.__cause__ if isinstance(error, _PipeClosedError) else None) or error, received)
        return found if isinstance(found, int) else 0


class _PipeClosedError(Exception):
    """A BrokenPipeError, its cause, which click would end with exit code 1 whatever has changed."""


@contextmanager
def _hidden_from_click() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _PipeClosedError from error


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore signals for some milliseconds, in a step whose half would be lost: a new key that is not printed yet."""
    former = {number: signal.getsignal(number) for number in SIGNALS} if _is_main_thread() else {}
    for number in former:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Raise Interrupted at each signal that would end the process; yields the numbers of those that have come."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise Interrupted(number)

    former = {}
    if _is_main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a job in the background
                former[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end(error: BaseException, received: list[int]) -> int:
    """Report in one sentence why the command has ended, and what has changed; returns the exit code."""
    broken = _mute_broken_streams()
    if isinstance(error, OSError) and error.filename is None:  # not of a file, so of a stream
        broken = error
    stays = _stays(error)
    if isinstance(broken, BrokenPipeError) and not stays and not received:
        return PIPE_CLOSED
    if received:
        why = f"interrupted by {signal.Signals(received[0]).name}"
    elif broken is not None:
        why = f"the output cannot be written: {broken.strerror}"
    else:
        why = _why(error)
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, Stays | Undone) and note not in why]
    if received and not notes:
        notes = [Undone("nothing has changed")]
    _say("; ".join([why, *notes]))
    if stays:
        return CHANGED
    return 128 + received[0] if received else FAILED


def _stays(error: BaseException) -> bool:
    return any(isinstance(note, Stays) for note in getattr(error, "__notes__", ()))


def _why(error: BaseException) -> str:
    if isinstance(error, AppraiserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(last.filename).name}, line {last.lineno})"


def _say(sentence: str) -> None:
    with suppress(OSError):
        click.echo(f"Error: {sentence}", err=True)


def _prepare_streams() -> None:
    """Let no character that a stream cannot hold end a command, and no file take the number of a closed stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _mute_broken_streams() -> OSError | None:
    """Discard what a broken stream still holds, on which the interpreter's end would fail; returns why stdout broke."""
    found = None
    for stream in (sys.stderr, sys.stdout):
        error = _flushed(stream)
        if error is not None and stream is not None:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        found = error
    return found


def _flushed(stream: TextIO | None) -> OSError | None:
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        return error
    return None
