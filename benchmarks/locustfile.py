"""A realistic mixed load: single houses, batches, looks at the model, and what clients get wrong; see mixed.py.

By hand, with a page on port 8089: `locust -f benchmarks/locustfile.py --host http://localhost:8000`.
"""

import random
from http import HTTPStatus

from locust import FastHttpUser, HttpUser, TaskSet, constant_throughput, task

from service.contract import EXAMPLE_HOUSE

chance = random.Random(0)  # noqa: S311 -- made-up houses are no secrets
INVALID = [
    ({"json": EXAMPLE_HOUSE | {"square_feet": -1}}, 422),
    ({"json": {"square_feet": 2000}}, 422),
    ({"data": "no JSON", "headers": {"Content-Type": "application/json"}}, 422),
    ({"data": "square_feet=2000", "headers": {"Content-Type": "text/plain"}}, 415),
]


def house() -> dict[str, float]:
    """One that few others have."""
    return EXAMPLE_HOUSE | {
        "square_feet": chance.randint(600, 5_000),
        "age_years": chance.randint(0, 90),
        "distance_to_city": chance.randint(0, 300) / 10,
    }


class Mixed(TaskSet):
    """What a client does. Whatever is not the expected answer is a failure, and makes locust's exit code 1."""

    wait_time = constant_throughput(20)

    @task(20)
    def single(self) -> None:
        """One house, and a price inside of its interval."""
        with self.client.post("/predict", json=house(), catch_response=True) as answer:
            found = answer.json() if answer.status_code == HTTPStatus.OK else {}
            interval = found.get("confidence_interval", {"lower": 1, "upper": 0})
            if not interval["lower"] < found.get("predicted_price", 0) < interval["upper"]:
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")

    @task(3)
    def batch(self) -> None:
        """Up to a hundred houses, and as many answers."""
        houses = [house() for _ in range(chance.randint(1, 100))]
        with self.client.post("/predict/batch", json={"houses": houses}, catch_response=True) as answer:
            if answer.status_code != HTTPStatus.OK or len(answer.json()["predictions"]) != len(houses):
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")

    @task(2)
    def info(self) -> None:
        """What answers."""
        for path in ("/model/info", "/models", "/health"):
            self.client.get(path)

    @task(2)
    def invalid(self) -> None:
        """A mistake, and the status that says so."""
        options, status = chance.choice(INVALID)
        with self.client.post("/predict", name="/predict (invalid)", catch_response=True, **options) as answer:
            if answer.status_code == status:
                answer.success()
            else:
                answer.failure(f"expected {status}, got {answer.status_code}: {answer.text[:200]}")


class Keeping(FastHttpUser):
    """Keeps its connection."""

    tasks = (Mixed,)
    weight = 3


class Closing(HttpUser):
    """Opens a connection for each request."""

    tasks = (Mixed,)

    def on_start(self) -> None:
        """Say so in every request."""
        self.client.headers["Connection"] = "close"
