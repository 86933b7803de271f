"""Keys: what is stored of them, what a ring makes of what is presented, and how a worker follows."""

import hashlib
import logging
import shutil
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from pricing.errors import DamagedKeysError, NotWritableError, UnknownKeyError, UnreadableKeysError
from pricing.files.filesystem import FileSystem
from service.access.api_keys import FORM, KEYS_FILE, LOOK_SECONDS, Key, Keys, KeySnapshot, KeyStore
from service.errors import KeysUnknownError
from tests.crashing_disk import RecordingDisk, restore, states

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> KeyStore:
    return KeyStore(tmp_path / "artifacts", clock=clock)


def test_what_is_stored_of_a_key_is_its_digest_and_never_its_secret(keys: KeyStore) -> None:
    key, text = keys.create("the web shop", ["predict", "read", "predict"], 90 * DAY)

    form = FORM.fullmatch(text)
    assert form is not None
    key_id, secret = form.groups()
    assert key == Key(
        id=key_id,
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        scopes=("predict", "read"),
        note="the web shop",
        created_at=NOW,
        expires_at=NOW + 90 * DAY,
    )
    assert keys.stored() == (key,)
    assert secret not in (keys.root / KEYS_FILE).read_text()


def test_no_two_keys_are_alike_and_the_oldest_is_first(keys: KeyStore) -> None:
    made = [keys.create("a client", ["read"], None) for _ in range(20)]

    assert len({text for _, text in made}) == len({key.id for key, _ in made}) == 20
    assert keys.stored() == tuple(key for key, _ in made)


def test_where_nothing_is_stored_there_are_no_keys_and_nothing_is_made(keys: KeyStore) -> None:
    assert (keys.stored(), keys.stamp()) == ((), None)
    assert not keys.root.exists()


def test_a_revoked_key_stays_revoked_at_its_first_time(keys: KeyStore, clock: Clock) -> None:
    key, _ = keys.create("a client", ["read"], None)
    other, _ = keys.create("another", ["read"], None)
    keys.revoke(key.id)
    clock.now += DAY

    revoked = keys.revoke(key.id)

    assert revoked.revoked_at == NOW
    assert [found.state(clock.now) for found in keys.stored()] == ["revoked", "active"]
    assert keys.stored()[1] == other


@pytest.mark.parametrize(
    ("lifetime", "overlap", "ends"),
    [
        (90 * DAY, DAY, (NOW + 11 * DAY, NOW + 100 * DAY)),
        (10.5 * DAY, DAY, (NOW + 10.5 * DAY, NOW + 20.5 * DAY)),  # it ends before the overlap does
        (None, DAY, (NOW + 11 * DAY, None)),
        (None, None, (None, None)),
    ],
)
def test_a_rotated_key_has_a_successor_of_the_same_kind_and_ends_after_the_overlap(
    keys: KeyStore,
    clock: Clock,
    lifetime: timedelta | None,
    overlap: timedelta | None,
    ends: tuple[datetime | None, datetime | None],
) -> None:
    old, old_text = keys.create("a client", ["read", "metrics"], lifetime)
    clock.now += 10 * DAY

    new, new_text = keys.rotate(old.id, overlap)

    assert (new.note, new.scopes, new.created_at, new.expires_at) == (old.note, old.scopes, clock.now, ends[1])
    assert keys.stored() == (old.model_copy(update={"expires_at": ends[0]}), new)
    assert new.id != old.id
    assert old_text != new_text


def test_only_an_active_key_has_a_successor(keys: KeyStore, clock: Clock) -> None:
    revoked, _ = keys.create("a client", ["read"], None)
    expired, _ = keys.create("a client", ["read"], DAY)
    keys.revoke(revoked.id)
    clock.now += DAY
    before = keys.stored()

    with pytest.raises(UnknownKeyError, match=f"^the key {revoked.id} is revoked; create another$"):
        keys.rotate(revoked.id, DAY)
    with pytest.raises(UnknownKeyError, match=f"^the key {expired.id} is expired; create another$"):
        keys.rotate(expired.id, DAY)

    assert keys.stored() == before


def test_a_key_that_there_is_not_is_neither_revoked_nor_rotated(keys: KeyStore) -> None:
    for change in (keys.revoke, lambda key_id: keys.rotate(key_id, DAY)):
        with pytest.raises(UnknownKeyError, match=r"^key 'nobody' was not found; `appraiser keys list`"):
            change("nobody")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "whole file: Invalid JSON"),
        (b'{"format": 0, "keys": []}', "whole file: observed format 0, expected a whole number from 1"),
        (b'{"format": 1, "keys": [{"id": "x"}]}', "keys.0.id: String should match pattern"),
    ],
)
def test_a_damaged_file_is_told_by_what_is_wrong_and_left_alone(keys: KeyStore, content: bytes, told: str) -> None:
    keys.root.mkdir()
    (keys.root / KEYS_FILE).write_bytes(content)

    with pytest.raises(DamagedKeysError, match=f"^{KEYS_FILE}: {told}"):
        keys.stored()
    with pytest.raises(DamagedKeysError):
        keys.create("a client", ["read"], None)

    assert (keys.root / KEYS_FILE).read_bytes() == content


class FullDisk(FileSystem):
    """A disk that takes nothing, once it is full."""

    is_full = False

    def write(self, path: Path, data: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().write(path, data)


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    disk = FullDisk()
    keys = KeyStore(tmp_path / "artifacts", disk)
    key, _ = keys.create("a client", ["read"], None)
    disk.is_full = True

    with pytest.raises(NotWritableError, match="No space left on device"):
        keys.revoke(key.id)

    assert keys.stored() == (key,)


class TestTheRing:
    def test_a_key_is_known_by_its_secret(self, keys: KeyStore) -> None:
        key, text = keys.create("a client", ["read", "metrics"], DAY)

        held = KeySnapshot(keys.stored()).authenticate(text)

        assert held is not None
        assert (held.key_id, held.scopes, held.is_revoked) == (key.id, frozenset({"read", "metrics"}), False)
        assert held.expires_at == (NOW + DAY).timestamp()

    def test_whatever_else_is_presented_is_nobodys(self, keys: KeyStore) -> None:
        key, text = keys.create("a client", ["read"], None)
        other, _ = keys.create("another", ["read"], None)
        ring, secret = KeySnapshot(keys.stored()), text.rpartition(key.id)[2][1:]
        last = "B" if text.endswith("A") else "A"

        for presented in (
            "",
            " ",
            secret,
            key.id,
            key.sha256,
            f"apr_{key.id}_{key.sha256}",
            text[:-1],
            text[:-1] + last,
            text + "A",
            text.upper(),
            f" {text}",
            f"{text}\n",
            f"{text}, {text}",
            f"apr_{other.id}_{secret}",
            f"apr_{'0' * 12}_{secret}",
            "\xff" * 60,
            "A" * 8_000,
        ):
            assert ring.authenticate(presented) is None, presented
        assert ring.authenticate(text) is not None

    def test_an_empty_ring_knows_nobody(self, keys: KeyStore) -> None:
        _, text = keys.create("a client", ["read"], None)

        assert KeySnapshot().authenticate(text) is None


class TestFollowing:
    @pytest.fixture
    def followed(self, keys: KeyStore) -> Keys:
        """Keys that look whenever they are asked."""
        moments = count(step=LOOK_SECONDS)
        return Keys(keys, lambda: float(next(moments)))

    def test_what_is_stored_is_taken_when_it_has_changed(self, keys: KeyStore, followed: Keys) -> None:
        assert followed.ring().authenticate("nobody's") is None
        key, text = keys.create("a client", ["read"], None)

        ring = followed.ring()
        assert ring.authenticate(text) is not None
        assert followed.ring() is ring  # nothing was read again
        keys.revoke(key.id)

        held = followed.ring().authenticate(text)
        assert held is not None
        assert held.is_revoked

    def test_between_two_looks_nothing_is_read(self, keys: KeyStore) -> None:
        moments = iter([0.0, LOOK_SECONDS - 0.001, LOOK_SECONDS])
        followed = Keys(keys, lambda: next(moments))
        followed.ring()
        _, text = keys.create("a client", ["read"], None)

        assert followed.ring().authenticate(text) is None
        assert followed.ring().authenticate(text) is not None

    def test_a_key_that_was_just_made_is_known_at_once(self, keys: KeyStore) -> None:
        followed = Keys(keys, lambda: 0.0)  # no time passes, so the next look is never due
        assert followed.authenticate("nobody's") is None
        _, text = keys.create("a client", ["read"], None)

        assert followed.ring().authenticate(text) is None
        assert followed.authenticate(text) is not None

    def test_a_file_that_is_gone_takes_all_keys_with_it(self, keys: KeyStore, followed: Keys) -> None:
        _, text = keys.create("a client", ["read"], None)
        assert followed.ring().authenticate(text) is not None

        (keys.root / KEYS_FILE).unlink()

        assert followed.ring().authenticate(text) is None

    def test_a_damaged_file_leaves_the_keys_and_is_logged_once(
        self, keys: KeyStore, followed: Keys, caplog: pytest.LogCaptureFixture
    ) -> None:
        _, text = keys.create("a client", ["read"], None)
        followed.ring()

        (keys.root / KEYS_FILE).write_bytes(b"{}")

        assert [followed.ring().authenticate(text) is None for _ in range(3)] == [False] * 3
        assert caplog.record_tuples == [
            ("service.access.api_keys", logging.ERROR, "the keys stay as they were: keys.json: format: Field required")
        ]


class Unreadable(KeyStore):
    """Keys on a disk that fails, or of a process that may not open another file, until it may."""

    failure: UnreadableKeysError | None = None

    def stored(self) -> tuple[Key, ...]:
        if self.failure:
            raise self.failure
        return super().stored()


def loop(path: Path) -> None:
    """Put something in its place that can neither be looked at nor read, for root either."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


class TestAFailedRead:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> Unreadable:
        return Unreadable(tmp_path / "artifacts")

    @pytest.fixture
    def followed(self, keys: Unreadable) -> Keys:
        """Keys that look whenever they are asked."""
        moments = count(step=LOOK_SECONDS)
        return Keys(keys, lambda: float(next(moments)))

    def test_a_key_that_is_revoked_meanwhile_is_refused_as_soon_as_the_file_can_be_read(
        self, keys: Unreadable, followed: Keys
    ) -> None:
        key, text = keys.create("a client", ["read"], None)
        followed.ring()
        keys.revoke(key.id)
        keys.failure = UnreadableKeysError("keys.json cannot be read: Too many open files")

        held = followed.ring().authenticate(text)
        assert held is not None
        assert not held.is_revoked
        assert followed.unreadable == "keys.json cannot be read: Too many open files"

        keys.failure = None
        held = followed.ring().authenticate(text)
        assert held is not None
        assert held.is_revoked
        assert followed.unreadable is None

    @pytest.mark.parametrize("content", [None, b"{}"], ids=["unreadable", "damaged"])
    def test_at_the_start_nobody_passes_and_nobody_is_told_that_a_key_is_not_valid(
        self, keys: Unreadable, followed: Keys, content: bytes | None
    ) -> None:
        _, text = keys.create("a client", ["read"], None)
        stored = (keys.root / KEYS_FILE).read_bytes()
        loop(keys.root / KEYS_FILE)
        if content is not None:
            (keys.root / KEYS_FILE).unlink()
            (keys.root / KEYS_FILE).write_bytes(content)

        for _ in range(2):
            with pytest.raises(KeysUnknownError):
                followed.ring()
        assert not followed.are_known

        (keys.root / KEYS_FILE).unlink()
        (keys.root / KEYS_FILE).write_bytes(stored)
        assert followed.ring().authenticate(text) is not None

    def test_a_file_that_cannot_be_looked_at_is_not_a_file_that_is_gone(
        self, keys: Unreadable, followed: Keys, caplog: pytest.LogCaptureFixture
    ) -> None:
        _, text = keys.create("a client", ["read"], None)
        followed.ring()
        stored = (keys.root / KEYS_FILE).read_bytes()

        loop(keys.root / KEYS_FILE)
        assert [followed.ring().authenticate(text) is None for _ in range(3)] == [False] * 3

        (keys.root / KEYS_FILE).unlink()
        (keys.root / KEYS_FILE).write_bytes(stored)
        followed.ring()
        assert [record.getMessage() for record in caplog.records] == [
            "the keys stay as they were: keys.json cannot be read: Too many levels of symbolic links",
            "the keys can be read again",
        ]


@pytest.mark.parametrize("syncs", [True, False])
def test_after_a_crash_at_any_operation_there_are_the_old_keys_or_the_new_ones(tmp_path: Path, *, syncs: bool) -> None:
    base, live = tmp_path / "base", tmp_path / "live"
    key, _ = KeyStore(base / "artifacts").create("a client", ["read"], None)
    shutil.copytree(base, live)
    disk = RecordingDisk(live)
    KeyStore(live / "artifacts", disk).revoke(key.id)

    found = set()
    for number, state in enumerate(states(base, disk.operations, syncs=syncs)):
        restore(state, tmp_path / str(number))
        try:
            (left,) = KeyStore(tmp_path / str(number) / "artifacts").stored()
            found.add(left.state(NOW))
        except (DamagedKeysError, ValueError):
            found.add("neither")  # type: ignore[arg-type]  # what the control shall see

    assert found == ({"active", "revoked"} if syncs else {"active", "revoked", "neither"})
