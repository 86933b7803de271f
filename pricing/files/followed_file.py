"""A file that other processes replace, followed by looks at it.

* The stamp is taken before the content is read, so a change in between is found by the next look.
* Stamp and content are remembered in one step, after a successful read. A failed read is repeated at every look.
* Damaged content is not read again before the file changes.
* What was read last stays valid while nothing newer can be read; `failure` is the reason why.
"""

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from pricing.errors import AppraiserError, UnreadableError
from pricing.files.locked_folder import Stamp

UNSEEN: Final = object()

T = TypeVar("T")


class _Seen(NamedTuple, Generic[T]):
    stamp: object
    value: T | None
    failure: AppraiserError | None


class FollowedFile(Generic[T]):
    """The last value of a file. Several threads may look: what they remember is one object."""

    def __init__(self, stamp: Callable[[], Stamp | None], read: Callable[[], T]) -> None:
        """`stamp` is None without a file. Both raise UnreadableError, and `read` another AppraiserError too."""
        self._stamp = stamp
        self._read = read
        self._seen = _Seen[T](UNSEEN, None, None)

    @property
    def value(self) -> T | None:
        """The last that could be read; None if there was none yet."""
        return self._seen.value

    @property
    def failure(self) -> AppraiserError | None:
        """Why the file as it is now cannot be read, or what is wrong with its content; None if nothing is."""
        return self._seen.failure

    def look(self) -> bool:
        """Read the file if it has changed, or if that has failed; returns whether value or failure is another one."""
        seen = self._seen
        self._seen = now = self._look(seen)
        return now.value is not seen.value or str(now.failure) != str(seen.failure)

    def _look(self, seen: _Seen[T]) -> _Seen[T]:
        try:
            stamp = self._stamp()
            if stamp == seen.stamp and not isinstance(seen.failure, UnreadableError):
                return seen
            return _Seen(stamp, self._read(), None)
        except UnreadableError as error:
            return seen._replace(failure=error)
        except AppraiserError as error:
            return _Seen(stamp, seen.value, error)
