"""The cache answers what has been asked before, and never for another version, level or house."""

import numpy as np
import pytest

from pricing.artifacts.store import Artifact
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor
from service.deployment.loaded_models import ServedModel
from service.predictions.cache import Cache
from tests.fake_service import DEFAULTS, HOUSE, calibration, fake_app
from tests.fakes import ThousandDollarsASquareFoot


class Counting(ThousandDollarsASquareFoot):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        self.runs += 1
        return super().run(houses)


def model(published: Artifact, digest: str, graph: Counting) -> ServedModel:
    return ServedModel.of(digest, published.manifest, Predictor(graph, calibration()))


def house(square_feet: float) -> Matrix:
    return np.array([[square_feet, 3, 2, 10, 5]], dtype=np.float32)


def test_what_has_been_asked_is_not_computed_again(published: Artifact) -> None:
    graph, cache = Counting(), Cache(10)
    served = model(published, "a", graph)

    first, hit = cache.predict(served, house(2000), 0.9)
    again, hit_again = cache.predict(served, house(2000), 0.9)

    assert (hit, hit_again, graph.runs) == ("miss", "hit", 1)
    assert again == first == served.predictor.predict(house(2000), 0.9)


@pytest.mark.parametrize(
    ("digest", "square_feet", "level"),
    [("b", 2000, 0.9), ("a", np.nextafter(np.float32(2000), np.float32(3000)), 0.9), ("a", 2000, 0.5)],
    ids=["another version", "the next float32", "another level"],
)
def test_a_question_that_differs_in_anything_is_computed(
    published: Artifact, digest: str, square_feet: float, level: float
) -> None:
    graph, cache = Counting(), Cache(10)
    cache.predict(model(published, "a", graph), house(2000), 0.9)

    _, hit = cache.predict(model(published, digest, graph), house(square_feet), level)

    assert (hit, graph.runs) == ("miss", 2)


def test_the_same_digest_is_the_same_version_also_when_it_was_loaded_again(published: Artifact) -> None:
    graph, cache = Counting(), Cache(10)
    cache.predict(model(published, "a", graph), house(2000), 0.9)

    assert cache.predict(model(published, "a", graph), house(2000), 0.9)[1] == "hit"


def test_it_keeps_what_was_asked_last_and_no_more_than_its_size(published: Artifact) -> None:
    graph, cache = Counting(), Cache(2)
    served = model(published, "a", graph)
    for square_feet in (1, 2, 1, 3):  # the youngest two are 1 and 3
        cache.predict(served, house(square_feet), 0.9)

    hits = [cache.predict(served, house(square_feet), 0.9)[1] for square_feet in (1, 3, 2)]

    assert hits == ["hit", "hit", "miss"]
    assert len(cache._entries) == 2


def test_an_answer_says_whether_it_came_from_the_cache(published: Artifact) -> None:
    client = fake_app(published.manifest).test_client()

    answers = [client.post("/predict", json=HOUSE) for _ in range(2)]

    assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit"]
    first, second = (answer.get_json() for answer in answers)
    assert first.pop("prediction_id") < second.pop("prediction_id")
    assert first == second


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "view"])
def test_of_size_0_it_is_off_and_says_nothing(published: Artifact, *, middleware: bool) -> None:
    graph = Counting()
    settings = DEFAULTS.model_copy(update={"cache_size": 0, "prediction_middleware": middleware})
    client = fake_app(published.manifest, graph, settings).test_client()

    answers = [client.post("/predict", json=HOUSE) for _ in range(2)]

    assert ["X-Cache" in answer.headers for answer in answers] == [False, False]
    assert graph.runs == 2
