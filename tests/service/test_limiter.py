"""The limit of a client: a moving window, and what happens when its storage does not answer."""

import logging
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from limits import parse
from limits.errors import StorageError
from limits.storage import MemoryStorage

from pricing.store import Artifact
from service.errors import LimitUnknownError, TooManyRequestsError
from service.limiter import STRIKES, Breaker, Limiter
from service.settings import OnFailure
from tests.fake_service import DEFAULTS, HOUSE, fake_app
from tests.waiting import wait_until


class Counted:
    """Counts what could not be looked up."""

    def __init__(self) -> None:
        self.decisions: Counter[str] = Counter()

    def limit_unknown(self, decision: OnFailure) -> None:
        self.decisions[decision] += 1


class Storage(MemoryStorage):
    """A storage that answers, or not, as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = True
        self.asked = 0

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        self.asked += 1
        if not self.answers:
            raise StorageError(ConnectionError("nobody there"))
        return super().acquire_entry(key, limit, expiry, amount)

    def check(self) -> bool:
        return self.answers


@pytest.fixture
def storage() -> Storage:
    return Storage()


def limiter(storage: Storage, on_failure: OnFailure = "open", limit: str = "3/hour") -> tuple[Limiter, Counted]:
    counted = Counted()
    return Limiter(parse(limit), storage, on_failure, counted), counted


def test_a_client_has_as_many_requests_as_the_limit_says_and_others_have_their_own(storage: Storage) -> None:
    limited, counted = limiter(storage)
    for _ in range(3):
        limited.admit("a")

    with pytest.raises(TooManyRequestsError, match=r"^Too many requests: at most 3 in 3,600 s are answered") as caught:
        limited.admit("a")
    limited.admit("b")

    ((name, seconds),) = caught.value.headers
    assert name == "Retry-After"
    assert 3_590 < int(seconds) <= 3_600
    assert counted.decisions == {}


def test_a_failure_is_decided_by_the_setting_and_counted(storage: Storage) -> None:
    storage.answers = False
    opened, counts_of_opened = limiter(storage, "open")
    closed, counts_of_closed = limiter(storage, "closed")

    opened.admit("a")
    with pytest.raises(LimitUnknownError):
        closed.admit("a")

    assert (counts_of_opened.decisions, counts_of_closed.decisions) == ({"open": 1}, {"closed": 1})


def test_after_a_few_failures_in_a_row_nobody_is_asked_until_the_storage_answers_again(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    storage.answers = False
    limited, counted = limiter(storage)
    for _ in range(100):
        limited.admit("a")
    assert (storage.asked, counted.decisions) == (STRIKES, {"open": 100})

    storage.answers = True
    wait_until(lambda: limited._breaker.is_closed)
    for _ in range(3):
        limited.admit("a")
    with pytest.raises(TooManyRequestsError):
        limited.admit("a")

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "the limits' storage does not answer in time; it is asked again when it does"),
        (logging.WARNING, "the limits' storage answers again"),
    ]


def test_failures_that_are_not_in_a_row_are_forgiven(storage: Storage) -> None:
    limited, _ = limiter(storage, limit="1000/hour")
    for number in range(20):
        storage.answers = number % STRIKES == 0
        limited.admit("a")

    assert storage.asked == 20


def test_late_answers_count_like_none(storage: Storage) -> None:
    late = Late(storage)
    limited, counted = limiter(late)
    for _ in range(STRIKES):
        limited.admit("a")

    assert (late.asked, counted.decisions) == (STRIKES, {})  # they were answers all the same
    limited.admit("a")
    assert (late.asked, counted.decisions) == (STRIKES, {"open": 1})
    late.is_over.set()


class Late(Storage):
    """A storage that takes its time, and does not come back before it is told to."""

    def __init__(self, _: Storage) -> None:
        super().__init__()
        self.is_over = threading.Event()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        self.is_over.wait(0.011)
        return super().acquire_entry(key, limit, expiry, amount)

    def check(self) -> bool:
        return self.is_over.wait(30)


def test_a_breaker_looks_once_at_a_time() -> None:
    looks, release = [], threading.Event()

    def answers() -> bool:
        looks.append(threading.current_thread())
        return release.wait(30)

    breaker = Breaker(answers)
    for _ in range(10 * STRIKES):
        breaker.bad()
    release.set()
    wait_until(lambda: breaker.is_closed)

    assert len(looks) == 1


class TestTheService:
    @pytest.fixture
    def ask(self, published: Artifact) -> Callable[[str], int]:
        client = fake_app(
            published.manifest, settings=DEFAULTS.model_copy(update={"rate_limit": "3/hour"})
        ).test_client()

        def ask(path: str) -> int:
            method = client.post if path.startswith("/predict") else client.get
            response = method(path, json={"houses": [HOUSE]} if path.endswith("batch") else HOUSE)
            assert ("Retry-After" in response.headers) == (response.status_code == 429)
            return response.status_code

        return ask

    def test_all_that_is_limited_is_counted_together(self, ask: Callable[[str], int]) -> None:
        paths = ("/predict", "/predict/batch", "/models", "/model/info", "/predict", "/docs")
        assert [ask(path) for path in paths] == [200, 200, 200, 429, 429, 429]

    def test_health_and_metrics_are_never_limited(self, ask: Callable[[str], int]) -> None:
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert {ask(path) for _ in range(10)} == {200}
        assert ask("/predict") == 200
