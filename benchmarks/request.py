"""What one request costs, and where it goes: `python -m benchmarks.request [--profile]`.

In process, from the WSGI environ to the bytes of the answer, with everything on: ids, metrics, log line and journal,
each in a file; the cache is off and houses differ. Beside a prediction stand an empty Flask view and an empty WSGI
function, as the limits; they take turns in one run, since machines are shared and noisy. Then batches of 1 to 10,000
houses beside what their model alone takes. `--profile` shows where a prediction's microseconds go, function by
function; under the profiler a call of a Python function costs several times of what it does without.
"""

import argparse
import atexit
import cProfile
import logging
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
from flask import Flask

from pricing.artifacts.store import Store
from pricing.house import FEATURES, Matrix
from service.app import create_app
from service.contract import DEFAULT_LEVEL, EXAMPLE_HOUSE
from service.observability.logs import RequestLog
from service.resources import Resources
from service.settings import Settings
from train.models.training import Plan, train
from train.sales import rows as data

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

REQUESTS: Final = 2_000
ROUNDS: Final = 25
BATCHES: Final = {1: 2_000, 10: 500, 100: 200, 1_000: 50, 10_000: 10}  # how many of each size
EMPTY_FUNCTION, EMPTY_VIEW, PREDICTION = "an empty WSGI function", "an empty Flask view", "a prediction"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--profile", action="store_true", help="where the microseconds of a prediction go")
    is_profile = parser.parse_args().profile
    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root)  # after what the resources register: the last to come is the first to go
    settings = Settings(
        artifacts=root / "artifacts",
        run=root / "run",
        journal=root / "journal",
        cache_size=0,
        max_batch_rows=max(BATCHES),
        max_body_bytes=1 << 24,
    )
    store = Store(settings.artifacts)
    store.publish(train(data.synthetic(seed=0), Plan("v1.0.0", "0", 0, "gradient-boosting"), tell=lambda _: None))
    store.deploy("v1.0.0")
    logging.disable()  # what is said beside the requests' lines
    log = (root / "log").open("wb")
    resources = replace(Resources.acquire(settings), log=RequestLog(log.fileno()))
    ours = create_app(settings, resources).wsgi_app
    if is_profile:
        profile(ours)
        return
    report_single({EMPTY_FUNCTION: empty_function, EMPTY_VIEW: empty_view(), PREDICTION: ours})
    model = resources.models.serving().champion.predictor
    report_batches(ours, lambda houses: model.predict(houses, DEFAULT_LEVEL))


def empty_function(_environ: "WSGIEnvironment", start_response: Any) -> list[bytes]:  # noqa: ANN401 -- PEP 3333
    """Answer nothing."""
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{}"]


def empty_view() -> "WSGIApplication":
    """Answer nothing, by way of Flask."""
    app = Flask("empty", static_folder=None)

    @app.post("/predict")
    def predict() -> bytes:
        return b"{}"

    return app.wsgi_app


def report_single(applications: "dict[str, WSGIApplication]") -> None:
    """Print what each takes, and how the prediction stands to the limits."""
    bodies = [orjson.dumps(house(number)) for number in range(REQUESTS)]
    times = in_turn(applications, bodies)
    print(f"{ROUNDS} rounds of {REQUESTS:,} requests, microseconds a request: median (tenths 1 and 9)")
    for name, took in times.items():
        print(f"{name:42} {told(took)}")
    print(f"{'a prediction beside an empty WSGI function':42} {told(times[PREDICTION] - times[EMPTY_FUNCTION])} more")
    print(f"{'a prediction beside an empty Flask view':42} {told(times[PREDICTION] / times[EMPTY_VIEW], 2)} times\n")


def report_batches(ours: "WSGIApplication", model: Callable[[Matrix], object]) -> None:
    """Print what a house of a batch costs, and what of that is not the model's."""
    print("microseconds a house: median (tenths 1 and 9)")
    print(f"{'houses':>6}   {'whole application':24}   {'model alone':24}   besides the model")
    for size, count in BATCHES.items():
        rows = [house(number) for number in range(size)]
        matrix = np.array([[row[name] for name in FEATURES] for row in rows], dtype=np.float32)
        body = orjson.dumps({"houses": rows})
        pairs = np.array([both(ours, body, model, matrix) for _ in range(count + 5)])[5:] / size
        whole, alone = pairs.T
        print(f"{size:6,}   {told(whole, 2):24}   {told(alone, 2):24}   {told(whole - alone, 2)}")


def both(
    ours: "WSGIApplication", body: bytes, model: Callable[[Matrix], object], matrix: Matrix
) -> tuple[float, float]:
    """Microseconds of one batch: through the whole application, and through the model alone."""
    took = microseconds(ours, "/predict/batch", [body])
    begun = time.perf_counter()
    model(matrix)
    return took, (time.perf_counter() - begun) * 1e6


def profile(ours: "WSGIApplication") -> None:
    """Print the functions that take most themselves."""
    bodies = [orjson.dumps(house(number)) for number in range(REQUESTS)]
    without = microseconds(ours, "/predict", bodies)
    print(f"{without:.1f} microseconds a request without the profiler; with it, of {REQUESTS:,} requests:")
    profiler = cProfile.Profile()
    profiler.runcall(microseconds, ours, "/predict", bodies)
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(40)


def in_turn(
    applications: "dict[str, WSGIApplication]", bodies: list[bytes]
) -> "dict[str, np.ndarray[Any, np.dtype[np.float64]]]":
    """Microseconds a request, for each round: all of them are warmed, and then take turns."""
    for found in applications.values():
        microseconds(found, "/predict", bodies)
    times = {name: np.empty(ROUNDS) for name in applications}
    for number in range(ROUNDS):
        for name, found in applications.items():
            times[name][number] = microseconds(found, "/predict", bodies)
    return times


def microseconds(found: "WSGIApplication", path: str, bodies: list[bytes]) -> float:
    """The mean of one round; the environs are made before."""
    environs = [environ_of(path, body) for body in bodies]
    begun = time.perf_counter()
    for environ in environs:
        found(environ, expect_200)
    return (time.perf_counter() - begun) / len(bodies) * 1e6


def environ_of(path: str, body: bytes) -> "WSGIEnvironment":
    """As the worker makes it of what curl sends."""
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_USER_AGENT": "curl/7.88.1",
        "HTTP_ACCEPT": "*/*",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
    }


def house(number: int) -> dict[str, float]:
    """A house that few other numbers have."""
    return EXAMPLE_HOUSE | {"square_feet": 600 + number % 5_000, "distance_to_city": (number % 300) / 10}


def told(values: "np.ndarray[Any, np.dtype[np.float64]]", digits: int = 1) -> str:
    """Median and tenths."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def expect_200(line: str, *_: object) -> Any:  # noqa: ANN401 -- PEP 3333
    """Else something cheaper, or dearer, than an answer would be timed."""
    if line != "200 OK":
        raise AssertionError(line)


if __name__ == "__main__":
    main()
