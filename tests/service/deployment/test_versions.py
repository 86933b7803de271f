"""Several versions in one service: which one answers whom, and what is told about them."""

from collections.abc import Iterator
from typing import Final

import pytest
from flask.testing import FlaskClient

from pricing.artifacts.deployment import Deployment, bucket_of, promote, split_traffic
from pricing.artifacts.store import Artifact
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor
from service.app import create_app
from service.deployment.loaded_models import LoadedDeployment, ModelRegistry, ServedModel
from tests.fake_service import DEFAULTS, HOUSE, NO_STORE, NOW, calibration, resources
from tests.fakes import ThousandDollarsASquareFoot

CHAMPION, CHALLENGER, PREVIOUS = "v1.1.0", "v1.2.0", "v1.0.0"
PRICES: Final = {CHAMPION: 2_000_000.0, CHALLENGER: 4_000_000.0, PREVIOUS: 6_000_000.0}
ROUTES: Final[dict[str, object]] = {"/predict": HOUSE, "/predict/batch": {"houses": [HOUSE] * 3}}


class Times(ThousandDollarsASquareFoot):
    """A thousand dollars a square foot, times a factor: each version has its own."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        return super().run(houses * self._factor)


class Split(ModelRegistry):
    """Three versions: a champion with 90 % of the clients, a challenger with 10 %, the previous champion."""

    def __init__(self, published: Artifact) -> None:
        super().__init__(NO_STORE)
        seals = {version: digit * 64 for version, digit in zip(PRICES, "abc", strict=True)}
        first = Deployment(generation=1, champion=PREVIOUS, sha256=seals)
        second = Deployment(generation=2, **promote(first, CHAMPION)._asdict(), sha256=seals)
        target = split_traffic(second, {CHAMPION: 90, CHALLENGER: 10})
        self.deployment = Deployment(generation=3, **target._asdict(), sha256=seals)
        models = {
            version: ServedModel.of(
                seals[version],
                published.manifest.model_copy(update={"version": version}),
                Predictor(Times(PRICES[version] / 2_000_000), calibration()),
            )
            for version in self.deployment.named()
        }
        self._serving = LoadedDeployment(self.deployment, models)


@pytest.fixture
def models(published: Artifact) -> Split:
    return Split(published)


@pytest.fixture(params=[True, False], ids=["middleware", "view"])
def client(models: Split, request: pytest.FixtureRequest) -> FlaskClient:
    settings = DEFAULTS.model_copy(update={"prediction_middleware": request.param})
    return create_app(settings, resources(models), lambda: NOW).test_client()


def answers(client: FlaskClient, path: str, headers: dict[str, str] | None = None) -> Iterator[tuple[str, float]]:
    """Version and price of each house."""
    response = client.post(path, json=ROUTES[path.partition("?")[0]], headers=headers)
    assert response.status_code == 200
    found = response.get_json()
    for answer in found.get("predictions", [found]):
        yield answer["model_version"], answer["predicted_price"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("version", PRICES)
def test_the_version_that_is_asked_for_answers(client: FlaskClient, path: str, version: str) -> None:
    assert set(answers(client, f"{path}?model_version={version}")) == {(version, PRICES[version])}


@pytest.mark.parametrize("path", ROUTES)
def test_the_champion_can_be_asked_for_by_its_role(client: FlaskClient, path: str) -> None:
    assert set(answers(client, f"{path}?model_version=champion")) == {(CHAMPION, PRICES[CHAMPION])}


@pytest.mark.parametrize("path", ROUTES)
def test_without_a_version_the_client_decides_and_stays_where_it_is(
    client: FlaskClient, models: Split, path: str
) -> None:
    arms = {}
    for number in range(300):
        expected = CHALLENGER if bucket_of(b"client %d" % number, 3) >= 90 else CHAMPION
        for _ in range(2):
            assert set(answers(client, path, {"X-Client-Id": f"client {number}"})) == {(expected, PRICES[expected])}
        arms[number] = expected

    assert models.deployment.arms == {CHAMPION: 90, CHALLENGER: 10}
    assert 15 <= list(arms.values()).count(CHALLENGER) <= 45  # 30 are expected


def test_without_a_client_equal_requests_are_on_one_arm_and_others_on_theirs(client: FlaskClient) -> None:
    def version(square_feet: int) -> str:
        answer = client.post("/predict", json=HOUSE | {"square_feet": square_feet})
        found: str = answer.get_json()["model_version"]
        return found

    first = [version(square_feet) for square_feet in range(1000, 1100)]

    assert [version(square_feet) for square_feet in range(1000, 1100)] == first
    assert set(first) == {CHAMPION, CHALLENGER}


@pytest.mark.parametrize("client_id", ["é", "a" * 2_000, " ", '"'])
def test_a_client_may_call_itself_as_it_likes(client: FlaskClient, client_id: str) -> None:
    assert len(set(answers(client, "/predict", {"X-Client-Id": client_id}))) == 1


@pytest.mark.parametrize("path", [*ROUTES, "/model/info"])
def test_a_version_that_is_not_in_service_is_a_404_that_lists_those_that_are(client: FlaskClient, path: str) -> None:
    method = "POST" if path in ROUTES else "GET"
    response = client.open(f"{path}?model_version=v9.9.9", method=method, json=ROUTES.get(path))

    assert (response.status_code, response.get_json()) == (
        404,
        {"detail": "This version is not in service; in service are v1.1.0, v1.0.0, v1.2.0 (/models has more)."},
    )


@pytest.mark.parametrize("path", [*ROUTES, "/model/info"])
@pytest.mark.parametrize("asked", ["", "latest", "1.0.0", "v1.0", "v01.0.0", "Champion", "champion%0A", "v1.0.0%0A"])
def test_what_is_no_version_is_a_422_at_the_parameter(client: FlaskClient, path: str, asked: str) -> None:
    method = "POST" if path in ROUTES else "GET"
    response = client.open(f"{path}?model_version={asked}", method=method, json=ROUTES.get(path))

    assert response.status_code == 422
    assert [problem["loc"] for problem in response.get_json()["detail"]] == [["query", "model_version"]]


def test_models_lists_each_with_its_role_and_its_weight_champion_first(client: FlaskClient) -> None:
    found = client.get("/models").get_json()

    assert found["generation"] == 3
    assert [(model["version"], model["role"], model["weight"]) for model in found["models"]] == [
        (CHAMPION, "champion", 90),
        (PREVIOUS, "previous", 0),
        (CHALLENGER, "challenger", 10),
    ]


def test_models_has_the_headline_metrics_of_the_manifest(client: FlaskClient, published: Artifact) -> None:
    metrics = published.manifest.metrics
    (at_90,) = (interval for interval in metrics.intervals if interval.level == 0.9)

    assert client.get("/models").get_json()["models"][0]["metrics"] == {
        "test_rows": metrics.test.rows,
        "mape": metrics.test.mape,
        "r2": metrics.test.r2,
        "coverage": at_90.coverage,
    }


@pytest.mark.parametrize(
    ("query", "version"),
    [("", CHAMPION), ("?model_version=champion", CHAMPION), (f"?model_version={PREVIOUS}", PREVIOUS)],
)
def test_info_describes_the_version_that_is_asked_for(client: FlaskClient, query: str, version: str) -> None:
    info = client.get(f"/model/info{query}").get_json()

    assert (info["version"], info["generation"]) == (version, 3)


def test_two_arms_never_share_an_entry_of_the_cache(client: FlaskClient) -> None:
    found = [
        next(answers(client, f"/predict?model_version={version}")) for version in (*PRICES, *reversed(PRICES), *PRICES)
    ]

    assert all(price == PRICES[version] for version, price in found)
