"""Whatever is posted is answered within a second, with a price or with a refusal, and leaves nothing behind."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from service.settings import OUR_WORKER
from tests.bodies import JSON, MARKER
from tests.gunicorn_process import GunicornProcess, gunicorn
from tests.reliability.fuzz import (
    BATCH,
    CONNECTIONS,
    SEED,
    SINGLE,
    TABLE,
    Answer,
    Body,
    bodies,
    bodies_by_route,
    fault,
    post,
    send,
)
from tests.reliability.workers import WORKERS, children, kilobytes, serve, store_of, train_version

EACH: Final = 10_000
MAX_MEGABYTES: Final = 10.0


def megabytes(server: GunicornProcess) -> float:
    """What the workers have of their own."""
    return sum(kilobytes(worker)[1] for worker in children(server.pid)) * 1024 / 1e6


# Mutants of their bodies are sent by tests/service/open_inference/test_wire.py.
OF_TENSORS: Final = {"/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"}


def routes(server: GunicornProcess) -> set[str]:
    """Those that take a POST."""
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    return {path for path, item in paths.items() if "post" in item}


def fuzz(server: GunicornProcess, sent: Mapping[str, list[Body]]) -> tuple[list[Answer], float]:
    """Send bodies to routes; returns the answers, and by how many megabytes the workers grew.

    First comes the table, over every connection and so to every worker. In it are the largest requests that are
    accepted: 1 MiB, 1,000 houses, 5,000 problems. What they take for a moment, up to 11 MB, the allocators keep.
    """
    workers = children(server.pid)
    first = [body for body in TABLE for _ in range(CONNECTIONS)]
    answers = [answer for path in sent for answer in send(server.url, path, first)]
    before = megabytes(server)
    answers += [answer for path, those in sent.items() for answer in send(server.url, path, those)]
    grown = megabytes(server) - before
    assert children(server.pid) == workers
    tell(answers)
    print(f"{len(workers)} workers had {before:.1f} MB after the table, and grew by {grown:.1f} MB")
    return answers, grown


def tell(answers: list[Answer]) -> None:
    """Print what was told."""
    statuses = Counter(answer.status for answer in answers)
    print(f"\nseed {SEED}: {len(answers):,} bodies, answered {dict(sorted(statuses.items()))},")
    print(f"{sum(answer.prices for answer in answers):,} prices, {len(faults(answers))} faults,")
    print(f"the slowest after {max(answer.seconds for answer in answers) * 1e3:.0f} ms")


def faults(answers: list[Answer]) -> list[str]:
    """What is wrong."""
    return [answer.fault for answer in answers if answer.fault]


def test_10_000_bodies_to_every_route(tmp_path: Path) -> None:
    sent = bodies_by_route(EACH, SEED)
    version = train_version("v1.0.0", "gradient-boosting", keep_sales=True)  # so that comparables are answered too
    with serve(store_of(tmp_path, version)) as server:
        assert routes(server) == set(sent) | OF_TENSORS
        answers, grown = fuzz(server, sent)

    assert faults(answers) == []
    assert {len(set(those)) for those in sent.values()} == {EACH}
    assert {answer.status for answer in answers} == {200, 413, 415, 422}
    assert sum(answer.prices for answer in answers) > EACH / 10
    assert grown < MAX_MEGABYTES


LEAKING: Final = """
kept = []

def application(environ, start_response):
    kept.append(b"x" * 20_000)
    status = "500 Internal Server Error" if len(kept) % 100 == 0 else "422 Unprocessable Entity"
    start_response(status, [("Content-Type", "application/json")])
    return [b'{"detail": []}']
"""


def test_the_control_a_service_that_fails_and_grows_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "leaking.py").write_text(LEAKING)
    app = gunicorn("leaking:application", cwd=tmp_path, worker_class=OUR_WORKER, workers=WORKERS)
    with app as server:
        answers, grown = fuzz(server, {SINGLE: bodies(SINGLE, 1_000, SEED)})

    failed = [answer for answer in answers if answer.status == 500]
    assert len(failed) >= 10
    assert faults(answers) == [answer.fault for answer in failed]
    assert grown > MAX_MEGABYTES


def priced(lower: float, price: float, upper: float) -> dict[str, Any]:
    """What is told of a house."""
    return {
        "predicted_price": price,
        "confidence_interval": {"lower": lower, "upper": upper},
        "model_version": "v1.0.0",
        "predicted_at": "2024-01-01T12:00:00+00:00",
        "confidence_level": 0.9,
        "prediction_id": "018cc4d1-5e00-7b3a-9f1c-4a7be93d0c55",
    }


PRICE: Final = priced(1, 2, 3)
PRICES: Final = {"predictions": [PRICE, PRICE], "count": 2}
PROBLEM: Final = {"type": "missing", "loc": ["body", "bedrooms"], "msg": "Field required"}


def answer_of(status: int, content: object, content_type: str = JSON) -> httpx.Response:
    """An answer as a service would send it; NaN and Infinity as Python writes them."""
    return httpx.Response(status, text=json.dumps(content), headers={"Content-Type": content_type})


def test_a_good_answer_has_no_fault() -> None:
    assert fault(SINGLE, answer_of(200, PRICE), 0.9) is None
    assert fault(BATCH, answer_of(200, PRICES), 0.9) is None
    assert fault(BATCH, answer_of(422, {"detail": [PROBLEM] * 20}), 0.9) is None
    assert fault(BATCH, answer_of(413, {"detail": "A sentence."}), 0.9) is None


@pytest.mark.parametrize(
    ("path", "status", "content", "told"),
    [
        (SINGLE, 500, {"detail": "A sentence."}, "status 500"),
        (SINGLE, 404, {"detail": "A sentence."}, "status 404"),
        (SINGLE, 200, PRICES, "is not in the contract: Field required"),
        (SINGLE, 200, priced(1, math.nan, 3), "is not in the contract: Input should be greater than or equal to 0"),
        (SINGLE, 200, priced(1, 0.5, 3), "has bounds and price (1.0, 0.5, 3.0)"),
        (SINGLE, 200, priced(1, 3.5, 3), "has bounds and price (1.0, 3.5, 3.0)"),
        (SINGLE, 200, priced(0, 2, 3), "has bounds and price (0.0, 2.0, 3.0)"),
        (SINGLE, 200, priced(1, 2, math.inf), "has bounds and price (1.0, 2.0, inf)"),
        (BATCH, 200, {"predictions": [PRICE, priced(2, 1, 3)], "count": 2}, "has bounds and price (2.0, 1.0, 3.0)"),
        (BATCH, 200, PRICES | {"count": 3}, "has 2 rows, and says 3"),
        (BATCH, 422, {"detail": [PROBLEM | {"input": "2"}]}, "is not in the contract: Extra inputs are not permitted"),
        (BATCH, 422, {"detail": [PROBLEM | {"msg": f"not {MARKER}"}]}, "is an echo"),
        (BATCH, 422, {"detail": [PROBLEM] * 200}, "is a refusal of 15,012 bytes"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(path: str, status: int, content: dict[str, Any], told: str) -> None:
    assert fault(path, answer_of(status, content), 0.1) == told


def test_an_answer_that_is_late_or_no_json_is_told() -> None:
    assert fault(SINGLE, answer_of(200, PRICE), 1.04) == "took 1.0 s"
    assert fault(SINGLE, answer_of(200, PRICE, "text/html"), 0.1) == "is not said to be JSON"


def test_an_answer_that_does_not_come_is_told() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        message = "the other end is gone"
        raise httpx.ReadError(message)

    with httpx.Client(transport=httpx.MockTransport(refuse), base_url="http://nobody") as client:
        answer = post(client, SINGLE, Body(b"{}"))

    assert (answer.status, answer.prices) == (0, 0)
    told = f"{SINGLE}: the answer to 2 bytes of {JSON}, b'{{}}', is missing: ReadError('the other end is gone')"
    assert answer.fault == told


def test_the_same_seed_gives_the_same_bodies() -> None:
    once, again, others = bodies_by_route(500, 1), bodies_by_route(500, 1), bodies_by_route(500, 2)

    assert once == again != others
    assert all(len(set(found)) == 500 for found in once.values())
