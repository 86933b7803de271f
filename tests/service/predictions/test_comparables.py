"""`comparables` of a prediction: what is asked for, what is answered, and what is refused."""

from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from pricing.artifacts.deployment import split_traffic
from pricing.artifacts.store import Artifact, Store
from pricing.inference.comparables import comparable_sales_of
from pricing.inference.predictor import load
from service.app import create_app
from service.contract import ModelInfo, Prediction, ValidationProblems
from service.deployment.loaded_models import ModelRegistry, ServedModel
from tests.column_sales import Keeping
from tests.fake_service import DEFAULTS, HOUSE, NOW, Always, fake_app, resources
from tests.fakes import KeptInMemory, SameIds

KNOWN: dict[str, Any] = {"latitude": 47.5, "zip_code": "98103", "heating": "gas"}
ONE_BY_ONE = "Comparable sales are found for one house at a time: send it to /predict."
NO_SALES = "This version keeps no sales to compare with: train one with --keep-sales, or ask without comparables."


@pytest.fixture(scope="module")
def model(keeping: Keeping) -> ServedModel:
    predictor = load(keeping.artifact)
    comparables = comparable_sales_of(keeping.artifact, predictor)
    return ServedModel.of("3" * 64, keeping.artifact.manifest, predictor, comparables)


@pytest.fixture(scope="module", params=[True, False], ids=["middleware", "view"])
def client(model: ServedModel, request: pytest.FixtureRequest) -> FlaskClient:
    settings = DEFAULTS.model_copy(update={"prediction_middleware": request.param})
    return create_app(settings, resources(Always(model)), lambda: NOW, SameIds()).test_client()


def answered(client: FlaskClient, query: str = "", **beside: object) -> dict[str, Any]:
    response = client.post(f"/predict{query}", json=HOUSE | beside)
    assert response.status_code == 200, response.data
    answer: dict[str, Any] = response.get_json()
    Prediction.model_validate_json(response.data)
    return answer


def refused(client: FlaskClient, path: str, body: object) -> list[tuple[str, list[Any], str]]:
    response = client.post(path, data=orjson.dumps(body), content_type="application/json")
    assert response.status_code == 422, response.data
    ValidationProblems.model_validate_json(response.data)
    return [(found["type"], found["loc"], found["msg"]) for found in response.get_json()["detail"]]


@pytest.mark.parametrize("count", [1, 5, 20])
def test_as_many_are_answered_as_are_asked_for_the_most_similar_first(client: FlaskClient, count: int) -> None:
    found = answered(client, f"?comparables={count}", **KNOWN)["comparables"]

    assert len(found) == count
    similarity = [sale["similarity"] for sale in found]
    assert similarity == sorted(similarity, reverse=True)


def test_a_sale_has_its_prices_its_date_its_house_and_what_differs(client: FlaskClient) -> None:
    for sale in answered(client, "?comparables=20", **KNOWN)["comparables"]:
        assert [*sale] == [
            "price",
            "sold_on",
            "time_adjusted_price",
            "adjusted_price",
            "similarity",
            "house",
            "differences",
        ]
        asked = HOUSE | KNOWN
        assert {*HOUSE} <= {*sale["house"]} <= {*asked}
        assert sale["differences"] == [
            {"field": name, "house": asked[name], "sale": value}
            for name, value in sale["house"].items()
            if asked[name] != value
        ]


def test_what_is_unknown_of_a_house_is_no_difference(client: FlaskClient) -> None:
    found = answered(client, "?comparables=20")["comparables"]

    assert len(found) == 20
    assert {part["field"] for sale in found for part in sale["differences"]} <= {*HOUSE}


def test_everything_else_of_the_answer_is_as_without_them(client: FlaskClient) -> None:
    plain, more = answered(client, **KNOWN), answered(client, "?comparables=3", **KNOWN)

    assert more.pop("comparables")
    assert more == plain


def test_query_and_body_ask_for_the_same(client: FlaskClient) -> None:
    by_query = answered(client, "?comparables=2", **KNOWN)
    for beside in ({"comparables": 2}, {"comparables": 2.0}):
        assert answered(client, **KNOWN, **beside) == by_query
        assert answered(client, "?comparables=2", **KNOWN, **beside) == by_query
    assert "comparables" not in answered(client, comparables=None)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0", "greater_than_equal"),
        ("21", "less_than_equal"),
        ("999999999", "less_than_equal"),
        ("9" * 5_000, "int_type"),
        *(
            (text, "int_type")
            for text in ("-1", "5.5", "5.0", "five", "", "true", "1_0", "%2B5", "5 ", "0x5", "%D9%A5")
        ),
    ],
)
def test_a_number_in_the_query_that_is_not_valid_is_refused(client: FlaskClient, text: str, kind: str) -> None:
    assert [found[:2] for found in refused(client, f"/predict?comparables={text}", HOUSE)] == [
        (kind, ["query", "comparables"])
    ]


NOT_WHOLE: list[object] = ["5", 5.5, True, False, [5], {}, ""]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0, "greater_than_equal"),
        (21, "less_than_equal"),
        (1e300, "less_than_equal"),
        *((value, "int_type") for value in NOT_WHOLE),
    ],
)
def test_a_number_in_the_body_that_is_not_valid_is_refused(client: FlaskClient, value: object, kind: str) -> None:
    found = refused(client, "/predict", HOUSE | {"comparables": value})

    assert [problem[:2] for problem in found] == [(kind, ["body", "comparables"])]


def test_two_different_values_are_refused(client: FlaskClient) -> None:
    assert refused(client, "/predict?comparables=2&comparables=3", HOUSE) == [
        ("contradiction", ["query", "comparables"], "The query has two different values of this parameter: send one.")
    ]
    assert refused(client, "/predict?comparables=2", HOUSE | {"comparables": 3}) == [
        (
            "contradiction",
            ["query", "comparables"],
            "The query and the body have different values of comparables: send one.",
        )
    ]


def test_a_batch_has_none(client: FlaskClient) -> None:
    batch = {"houses": [HOUSE, HOUSE]}
    one_by_one = ("not_of_batch", ["query", "comparables"], ONE_BY_ONE)
    in_a_row = {"houses": [HOUSE, HOUSE | {"comparables": 5}]}

    assert refused(client, "/predict/batch?comparables=5", batch) == [one_by_one]
    assert refused(client, "/predict/batch", batch | {"comparables": 5}) == [
        ("not_of_batch", ["body", "comparables"], ONE_BY_ONE)
    ]
    assert refused(client, "/predict/batch", in_a_row) == [
        ("not_of_batch", ["body", "houses", 1, "comparables"], ONE_BY_ONE)
    ]
    nothing = {"houses": [HOUSE | {"comparables": None}], "comparables": None}
    assert client.post("/predict/batch", json=nothing).status_code == 200


def test_a_version_that_keeps_no_sales_says_what_to_do(published: Artifact) -> None:
    client = fake_app(published.manifest).test_client()

    response = client.post("/predict?comparables=5", json=HOUSE)

    assert (response.status_code, response.get_json()) == (404, {"detail": NO_SALES})
    assert client.post("/predict?comparables=21", json=HOUSE).status_code == 422


def test_the_journal_records_the_prediction_and_no_sale(model: ServedModel) -> None:
    journal = KeptInMemory()
    client = create_app(DEFAULTS, resources(Always(model), journal), lambda: NOW).test_client()
    for query in ("", "?comparables=5"):
        assert client.post(f"/predict{query}", json=HOUSE | KNOWN).status_code == 200

    (plain, first), (more, second) = journal.records
    assert first[1:] == second[1:]  # but for the id
    assert plain.source._replace(cache_hit=True) == more.source


def test_the_model_says_how_many_sales_it_keeps(client: FlaskClient, keeping: Keeping, published: Artifact) -> None:
    assert (
        ModelInfo.model_validate(client.get("/model/info").get_json()).kept_sales == keeping.artifact.manifest.data.fit
    )
    assert "kept_sales" not in fake_app(published.manifest).test_client().get("/model/info").get_json()


def test_the_document_offers_them_for_one_house_only(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    names = {
        path: [found["name"] for found in paths[path]["post"]["parameters"]] for path in ("/predict", "/predict/batch")
    }

    assert "comparables" in names["/predict"]
    assert "comparables" not in names["/predict/batch"]


def test_of_versions_in_a_split_each_answers_with_its_own_sales(store: Store, keeping: Keeping) -> None:
    store.publish(keeping.artifact)
    store.swap_pointer(lambda current: split_traffic(current, {"v1.0.0": 50, "v3.0.0": 50}))
    models = ModelRegistry(store)
    models.follow()
    client = create_app(DEFAULTS, resources(models), lambda: NOW).test_client()

    def asked(version: str) -> int:
        return client.post(f"/predict?comparables=5&model_version={version}", json=HOUSE).status_code

    assert [asked(version) for version in ("v1.0.0", "v3.0.0", "champion", "v9.9.9")] == [404, 200, 404, 404]
