"""Keys of clients: their file, the commands that write it, and the workers that read it.

<artifacts>/keys.json    replaced by rename, as the deployment is; workers follow it

A key is `apr_<id>_<secret>`. Stored is the SHA-256 of the secret: it has 256 random bits, so a slow
or salted hash would protect nothing more.
"""

import hashlib
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, Self, get_args

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from pricing.artifacts.manifest import Sha256
from pricing.errors import DamagedKeysError, UnknownKeyError, UnreadableKeysError
from pricing.files.filesystem import FileSystem
from pricing.files.followed_file import FollowedFile
from pricing.files.locked_folder import LockedFolder, Stamp
from pricing.format import Part, Stored, reason_of
from service.errors import KeysUnknownError

KEYS_FILE: Final = "keys.json"
FORMAT: Final = 1
LONGEST_NOTE: Final = 100  # characters
FORM: Final = re.compile(r"apr_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ID_BYTES, _SECRET_BYTES = 6, 32

LOOK_SECONDS: Final = 0.5  # so revoked keys are refused after half a second; one look costs 2 µs

Scope = Literal["predict", "read", "metrics", "admin"]
"""Predictions, models, metrics, and all of it."""
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

logger = logging.getLogger(__name__)


class Key(Part):
    """A key as it is stored."""

    # Unknown fields are those of a later release. They are kept: a release that revokes a key must not remove them.
    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    sha256: Sha256
    """Of the secret."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    note: Annotated[str, Field(min_length=1, max_length=LONGEST_NOTE)]
    """Whose key it is, for a person."""
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        """The state of the key now."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def ending(self, now: datetime, after: timedelta | None) -> Self:
        """The same, but over after a while; None leaves it as it is."""
        if after is None:
            return self
        ends = min(self.expires_at or now + after, now + after)
        return self.model_copy(update={"expires_at": ends})


class _Keys(Stored):
    """The whole file."""

    NEWEST: ClassVar[int] = FORMAT
    model_config = ConfigDict(extra="allow")

    format: int
    keys: tuple[Key, ...]


class KeyStore(LockedFolder):
    """The keys beside the published versions: commands write them, workers read them."""

    def __init__(self, root: Path, disk: FileSystem | None = None, clock: Callable[[], datetime] | None = None) -> None:
        super().__init__(root, disk)
        self._clock = clock or (lambda: datetime.now(UTC))

    def stored(self) -> tuple[Key, ...]:
        """Every key, oldest first; none if the file does not exist. Raises UnreadableKeysError or DamagedKeysError."""
        return self._read().keys

    def _read(self) -> _Keys:
        try:
            return _Keys.model_validate_json((self.root / KEYS_FILE).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return _Keys(format=FORMAT, keys=())
        except OSError as error:
            raise _unreadable(error) from error
        except ValidationError as error:
            msg = f"{KEYS_FILE}: {reason_of(error)}"
            raise DamagedKeysError(msg) from error

    def stamp(self) -> Stamp | None:
        """A value that changes whenever the keys change; None if the file does not exist. Costs one `stat`.

        Raises UnreadableKeysError.
        """
        try:
            return self._stamp(KEYS_FILE)
        except OSError as error:
            raise _unreadable(error) from error

    def create(self, note: str, scopes: Iterable[Scope], lifetime: timedelta | None) -> tuple[Key, str]:
        """Make a key; returns what is stored and the key itself, which is not stored.

        Raises DamagedKeysError or NotWritableError, and then nothing has changed.
        """
        key, text = _make(note, tuple(dict.fromkeys(scopes)), self._clock(), lifetime)
        self._change(lambda keys: (*keys, key))
        return key, text

    def revoke(self, key_id: str) -> Key:
        """End a key now; one that is revoked already stays as it is. Raises UnknownKeyError too."""

        def end(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            now, found = self._clock(), _find(keys, key_id)
            ended = found if found.revoked_at is not None else found.model_copy(update={"revoked_at": now})
            return tuple(ended if key is found else key for key in keys)

        return _find(self._change(end), key_id)

    def rotate(self, key_id: str, overlap: timedelta | None) -> tuple[Key, str]:
        """Make the successor of an active key, with its note, scopes and lifetime; the old one ends after `overlap`.

        Without an overlap the old one goes on as it was. Raises UnknownKeyError for a key that is not active too.
        """
        now, made = self._clock(), []

        def succeed(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            old = _find(keys, key_id)
            if old.state(now) != "active":
                msg = f"the key {key_id} is {old.state(now)}; create another"
                raise UnknownKeyError(msg)
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            made.append(_make(old.note, old.scopes, now, lifetime))
            return (*(old.ending(now, overlap) if key is old else key for key in keys), made[0][0])

        self._change(succeed)
        return made[0]

    def _change(self, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> tuple[Key, ...]:
        with self._writing():
            old = self._read()
            new = change(old.keys)
            self._put(old.model_copy(update={"keys": new}))
            self._sync_or(lambda: self._put(old))
        return new

    def _put(self, keys: _Keys) -> None:
        self._replace(KEYS_FILE, keys.model_dump_json(indent=2).encode() + b"\n")


def _unreadable(error: OSError) -> UnreadableKeysError:
    return UnreadableKeysError(f"{KEYS_FILE} cannot be read: {error.strerror}")


def _make(note: str, scopes: tuple[Scope, ...], now: datetime, lifetime: timedelta | None) -> tuple[Key, str]:
    expires_at = None if lifetime is None else now + lifetime
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    key = Key(id=key_id, sha256=digest, scopes=scopes, note=note, created_at=now, expires_at=expires_at)
    return key, f"apr_{key_id}_{secret}"


def _find(keys: tuple[Key, ...], key_id: str) -> Key:
    found = next((key for key in keys if key.id == key_id), None)
    if found is None:
        msg = f"key {key_id!r} was not found; `appraiser keys list` lists the keys"
        raise UnknownKeyError(msg)
    return found


class ActiveKey(NamedTuple):
    """A key as each request asks for it."""

    key_id: str
    digest: bytes
    scopes: frozenset[str]
    expires_at: float
    """Unix time."""
    is_revoked: bool


# What an unknown id is compared with, so that it is as much work as a known one; no key has this secret.
_NOBODYS: Final = secrets.token_bytes(32)


class KeySnapshot:
    """Keys in memory. Never changed, only replaced as a whole."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._held = {key.id: _held(key) for key in keys}

    def authenticate(self, presented: str) -> ActiveKey | None:
        """Return the key that was presented, whatever it is worth; None for what is none of ours."""
        form = FORM.fullmatch(presented)
        key_id, secret = form.groups() if form else ("", presented)
        held = self._held.get(key_id)
        digest = hashlib.sha256(secret.encode()).digest()
        is_right = hmac.compare_digest(digest, _NOBODYS if held is None else held.digest)
        return held if is_right else None

    def active(self, now: float) -> frozenset[str]:
        """Return the ids of the keys that are valid at a Unix time."""
        return frozenset(h.key_id for h in self._held.values() if not h.is_revoked and now < h.expires_at)


class Keys:
    """The keys of a worker, which follow those that are stored.

    Requests look themselves, and not only the watcher: loading a model must not hold up that a key is revoked.
    """

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = FollowedFile(store.stamp, lambda: KeySnapshot(store.stored()))
        self._clock = clock
        self._look_at = -math.inf

    def ring(self) -> KeySnapshot:
        """Return what was stored half a second ago, or the last that could be read. Raises KeysUnknownError."""
        now = self._clock()
        if now >= self._look_at:
            self._follow(now)
        ring = self._file.value
        if ring is None:
            raise KeysUnknownError
        return ring

    def authenticate(self, presented: str) -> ActiveKey | None:
        """Return the key that was presented, whatever it is worth; None for an unknown one. Raises KeysUnknownError.

        An unknown key may have just been made, so the file is looked at once more: 2 µs.
        """
        found = self.ring().authenticate(presented)
        if found is None:
            self._follow(self._clock())
            found = self.ring().authenticate(presented)
        return found

    def active(self) -> frozenset[str]:
        """Return the ids of the keys that are valid now. Raises KeysUnknownError."""
        return self.ring().active(time.time())

    @property
    def are_known(self) -> bool:
        """Whether they have been read since the start: before, no request can pass."""
        return self._file.value is not None

    @property
    def unreadable(self) -> str | None:
        """Why the keys that are stored now cannot be read; None if they can."""
        failure = self._file.failure
        return None if failure is None else str(failure)

    def look(self) -> None:
        """Follow the file if the last look is half a second ago. Each reason why it cannot be read is logged once."""
        now = self._clock()
        if now >= self._look_at:
            self._follow(now)

    def _follow(self, now: float) -> None:
        self._look_at = now + LOOK_SECONDS
        former = self.unreadable
        if not self._file.look() or self.unreadable == former:
            return
        if self.unreadable is None:
            logger.warning("the keys can be read again")
        else:
            kept = "no key is valid" if self._file.value is None else "the keys stay as they were"
            logger.error("%s: %s", kept, self.unreadable)


def _held(key: Key) -> ActiveKey:
    expires_at = math.inf if key.expires_at is None else key.expires_at.timestamp()
    revoked = key.revoked_at is not None
    return ActiveKey(key.id, bytes.fromhex(key.sha256), frozenset(key.scopes), expires_at, revoked)
