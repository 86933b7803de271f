"""Writes log lines to a descriptor without ever waiting for its reader.

* A line that the reader leaves no room for is dropped and counted; the next line that is written is preceded by one
  with the number of dropped lines.
* O_NONBLOCK belongs to the open file description, which a shell, the master and other processes share. So it is never
  set on a descriptor that was inherited: a pipe or a terminal is opened once more, a socket gets the flag
  with every write.
* A pipe takes a line of up to PIPE_BUF bytes whole or not at all, so lines of several workers do not mix. The rest of a
  longer line that was written in part is written before anything else.
"""

import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from typing import Final

import orjson

STDOUT: Final = 1
STDERR: Final = 2


class Sink:
    """Where the lines of one process go. A process has one for each descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Lines go to this descriptor."""
        self.is_terminal: Final = os.isatty(descriptor)
        self._write = _writer(descriptor)
        self._lock = threading.RLock()  # a signal handler may log while a line is being written
        self._rest = b""
        self._dropped = 0
        os.register_at_fork(after_in_child=self._forget)

    def write(self, line: bytes) -> None:
        """Write a whole line. Raises OSError when it is dropped."""
        with self._lock:
            try:
                if self._rest or self._dropped:
                    self._catch_up()
                written = self._write(line)
            except OSError:
                self._dropped += 1
                raise
            if written != len(line):
                self._rest = line[written:]

    def _catch_up(self) -> None:
        """Write what is left of a line, and how many were dropped since."""
        if self._rest:
            self._rest = self._rest[self._write(self._rest) :]
        if self._dropped and not self._rest:
            told = _dropped(self._dropped, is_terminal=self.is_terminal)
            self._rest = told[self._write(told) :]
            self._dropped = 0
        if self._rest:
            raise BlockingIOError

    def _forget(self) -> None:
        """The parent's lines are the parent's to finish and to count."""
        self._lock = threading.RLock()
        self._rest, self._dropped = b"", 0


def _dropped(lines: int, *, is_terminal: bool) -> bytes:
    now, said = datetime.now(UTC), "log lines were dropped, because the reader of this log left no room"
    if is_terminal:
        return f"{now:%Y-%m-%dT%H:%M:%S.%fZ} [warning] {lines} {said}\n".encode()
    event = {"time": now, "level": "warning", "event": said, "dropped": lines, "process": os.getpid()}
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _writer(descriptor: int) -> Callable[[bytes], int]:
    """A function that writes there and returns the bytes written; it raises OSError instead of waiting."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:  # it is closed: each write fails
        mode = 0
    if stat.S_ISSOCK(mode):
        connected = socket.socket(fileno=os.dup(descriptor))  # its own number, not its own description
        return lambda line: connected.send(line, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        with suppress(OSError):  # of another user, without /proc, or without a reader
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
            return partial(os.write, descriptor)
        return lambda line: _write_if_ready(descriptor, line)
    return partial(os.write, descriptor)  # a file, which takes it, or is full


def _write_if_ready(descriptor: int, line: bytes) -> int:
    """Write up to PIPE_BUF bytes where there is room: the best where the description is shared.

    Another process may take the room between the look and the write; then the write waits.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, line[: select.PIPE_BUF])


@cache
def stdout() -> Sink:
    """The one of stdout; nowhere if the process was started without one: another file may have its number."""
    return Sink(os.open(os.devnull, os.O_WRONLY) if sys.stdout is None else STDOUT)


@cache
def stderr() -> Sink:
    """The one of stderr, likewise."""
    return Sink(os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else STDERR)
