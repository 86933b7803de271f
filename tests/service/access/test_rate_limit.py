"""The limit of a client: who is counted as whom, and what happens when nobody can say what it has used up."""

from collections import Counter
from collections.abc import Callable

import pytest

from pricing.artifacts.store import Artifact
from service.access.memory_window import MemoryWindow
from service.access.rate_limit import Limiter, Rate
from service.errors import LimitUnknownError, TooManyRequestsError
from service.settings import IN_MEMORY, OnFailure
from tests.fake_service import DEFAULTS, HOUSE, fake_app


class Counted:
    """Counts what could not be looked up."""

    def __init__(self) -> None:
        self.decisions: Counter[str] = Counter()

    def limit_unknown(self, decision: OnFailure) -> None:
        self.decisions[decision] += 1


class Answers:
    """A window that answers what a test says."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def hit(self, client: str) -> float | None:
        assert client
        return self.seconds


def limiter(seconds: float | None, on_failure: OnFailure = "open") -> tuple[Limiter, Counted]:
    counted, window = Counted(), Answers(seconds)
    return Limiter(Rate(3, 3_600), window, window, on_failure, counted), counted


def test_a_client_has_as_many_requests_as_the_limit_says_and_others_have_their_own() -> None:
    counted = Counted()
    limited = Limiter.of("3/hour", IN_MEMORY, "open", counted)
    for _ in range(3):
        limited.admit_address("a")

    with pytest.raises(TooManyRequestsError, match=r"^Too many requests: at most 3 in 3,600 s are answered") as caught:
        limited.admit_address("a")
    limited.admit_address("b")
    limited.admit_key("a")

    ((name, seconds),) = caught.value.headers
    assert name == "Retry-After"
    assert 3_590 < int(seconds) <= 3_600
    assert counted.decisions == {}


@pytest.mark.parametrize(("seconds", "told"), [(0.001, "1"), (1.0, "1"), (1.001, "2"), (3_600.0, "3600")])
def test_a_client_is_told_whole_seconds_that_are_enough(seconds: float, told: str) -> None:
    limited, _ = limiter(seconds)

    with pytest.raises(TooManyRequestsError) as caught:
        limited.admit_key("a")

    assert caught.value.headers == (("Retry-After", told),)


def test_what_is_not_known_is_decided_by_the_setting_and_counted() -> None:
    opened, counts_of_opened = limiter(None, "open")
    closed, counts_of_closed = limiter(None, "closed")

    opened.admit_address("a")
    with pytest.raises(LimitUnknownError):
        closed.admit_address("a")

    assert (counts_of_opened.decisions, counts_of_closed.decisions) == ({"open": 1}, {"closed": 1})


def test_many_addresses_do_not_make_a_key_forgotten() -> None:
    keys, addresses = (MemoryWindow(3, 3_600, most_clients=10) for _ in range(2))
    limited = Limiter(Rate(3, 3_600), keys, addresses, "open", Counted())
    for _ in range(3):
        limited.admit_key("a")
    for number in range(1_000):
        limited.admit_address(f"{number}")

    with pytest.raises(TooManyRequestsError):
        limited.admit_key("a")


@pytest.mark.parametrize(
    ("text", "rate"), [("1/second", (1, 1)), ("20/minute", (20, 60)), ("3/hour", (3, 3_600)), ("4/day", (4, 86_400))]
)
def test_a_limit_is_read_as_it_is_written(text: str, rate: tuple[int, int]) -> None:
    assert Rate.of(text) == rate


def test_what_is_not_a_limit_is_told_what_one_is() -> None:
    with pytest.raises(
        ValueError, match=r"^the rate limit '3/week' is not valid; it is written as 100/second, /minute"
    ):
        Rate.of("3/week")


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
