"""Bodies that nobody would write, sent as fast as they are answered, and what may be wrong with an answer.

The same seed gives the same bodies; another one is named by FUZZ_SEED in the environment.
"""

import gc
import json
import math
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import chain, repeat
from multiprocessing import get_context
from typing import Final, NamedTuple

import httpx
import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pricing.house import BOUNDS, FEATURES
from service.contract import Options, Prediction, Predictions, Problem, ValidationProblems
from tests.bodies import CASES, EDGES, JSON, MARKER, MAX_BYTES, NOT_NUMBERS, batch

SEED: Final = int(os.environ.get("FUZZ_SEED", "0"))
CONNECTIONS: Final = 4  # so that each of two workers has two of them
SLOWEST_SECONDS: Final = 1.0
MAX_REFUSAL_BYTES: Final = 8 * 1024
SINGLE: Final = "/predict"
BATCH: Final = "/predict/batch"
ANSWERS: Final[dict[str, type[BaseModel]]] = {SINGLE: Prediction, BATCH: Predictions}
REFUSALS: Final[dict[int, type[BaseModel]]] = {413: Problem, 415: Problem, 422: ValidationProblems}


class Body(NamedTuple):
    """What is sent."""

    content: bytes
    content_type: str | None = JSON


TABLE: Final = [Body(case.body, case.content_type) for case in CASES]


def bodies_by_route(count: int, seed: int) -> dict[str, list[Body]]:
    """So many for each route. Processes of their own, since hypothesis also draws what loaded modules have written."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return dict(zip(STRATEGIES, pool.map(bodies, STRATEGIES, repeat(count), repeat(seed)), strict=True))


def bodies(path: str, count: int, seed: int) -> list[Body]:
    """So many for a route, no two alike: the table; of the rest one half drawn, one half mutants of valid ones."""
    drawn = draw(STRATEGIES[path], (count - len(TABLE)) // 2, seed)
    found = dict.fromkeys([*TABLE, *map(Body, drawn)])
    rng = random.Random(seed)  # noqa: S311 -- nothing secret
    while len(found) < count:
        found[Body(mutant(rng, VALID[path]))] = None
    return rng.sample(list(found), count)


# --- Drawn: JSON around the schema, and beside it


def draw(strategy: st.SearchStrategy[str], count: int, seed: int) -> list[bytes]:
    """So many examples of JSON text, in UTF-8 but for halves of surrogate pairs."""
    found: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def collect(text: str) -> None:
        found.append(text.encode("utf-8", "surrogatepass"))

    collect()
    return found


def written(pairs: Sequence[tuple[str, str]]) -> str:
    """An object of names and JSON texts; of those with the same name, the last one counts."""
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in pairs) + "}"


def listed(texts: Sequence[str]) -> str:
    """A list of JSON texts."""
    return "[" + ", ".join(texts) + "]"


def mostly(usual: st.SearchStrategy[str], rare: st.SearchStrategy[str], rarely: int = 10) -> st.SearchStrategy[str]:
    """One strategy, and once in a while another."""
    return st.integers(1, rarely).flatmap(lambda drawn: rare if drawn == rarely else usual)


def valid_number(name: str) -> st.SearchStrategy[str]:
    """What a field accepts."""
    above, minimum, maximum, whole = BOUNDS[name]
    if whole:
        return st.integers(int(minimum or 0), int(maximum or 0)).map(str)
    lowest = minimum if above is None else above
    return st.floats(lowest, maximum, exclude_min=above is not None).map(repr)


NAMES: Final = st.text(st.characters())  # halves of surrogate pairs too
SCALARS: Final = st.none() | st.booleans() | st.integers() | st.floats() | NAMES | st.just(MARKER)
VALUES: Final = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=5)
EDGE_TEXTS: Final = (
    *sorted({text for texts in EDGES.values() for text in texts}),
    *NOT_NUMBERS.values(),
    *("-0.0", "1e308", "-1e308", "5e-324", "1e-999", "3.4028236e38", "1e-46", "0." + "9" * 400, "1E+0"),
)
DEEP: Final = st.builds(
    lambda opening, closing, depth, closed: opening * depth + "1" + closing * depth * closed,
    *(st.sampled_from(["[", '{"a":']), st.sampled_from(["]", "}"]), st.integers(1, 100_000), st.booleans()),
)
HUGE: Final = st.integers(1, MAX_BYTES // len(MARKER)).map(lambda times: f'"{MARKER * times}"')
ORDINARY_TEXTS: Final = st.sampled_from(EDGE_TEXTS) | st.builds(json.dumps, VALUES, ensure_ascii=st.booleans())
TEXTS: Final = mostly(ORDINARY_TEXTS, DEEP | HUGE, rarely=50)
PAIRS: Final = st.tuples(mostly(st.sampled_from([*FEATURES, *Options.model_fields]), NAMES), TEXTS)
SPOILT: Final = st.builds(
    lambda numbers, more: written([*zip(FEATURES, numbers, strict=True), *more]),
    st.tuples(*(valid_number(name) for name in FEATURES)),
    st.lists(PAIRS, max_size=2),
)
ONE: Final = mostly(SPOILT, st.lists(PAIRS).map(written))
MANY: Final = st.builds(
    lambda rows, more: written([("houses", listed(rows)), *more]),
    st.lists(mostly(ONE, TEXTS), max_size=4),
    st.lists(PAIRS, max_size=1),
)
STRATEGIES: Final = {SINGLE: mostly(ONE, MANY | TEXTS), BATCH: mostly(MANY, ONE | TEXTS)}


# --- Mutants of valid bodies


def mutant(rng: random.Random, valid: Sequence[bytes]) -> bytes:
    """One of the valid bodies, with one to four changes."""
    body = rng.choice(valid)
    for _ in range(rng.randint(1, 4)):
        body = changed(rng, body, rng.choice(valid))
    return body


def changed(rng: random.Random, body: bytes, other: bytes) -> bytes:
    """A body with some bits flipped, bytes inserted, removed or repeated, cut off, or going on as another does."""
    start, length = rng.randint(0, len(body)), rng.choice([1, 1, 2, 8])
    before, some, after = body[:start], body[start : start + length], body[start + length :]
    return rng.choice(
        [
            before + bytes(byte ^ 1 << rng.randrange(8) for byte in some) + after,
            before + rng.randbytes(length) + some + after,
            before + after,
            before + some * rng.randint(2, 400) + after,
            before,
            before + other[start:],
        ]
    )


_SINGLES: Final = [case.body for case in CASES if (case.path, case.status) == (SINGLE, 200) and len(case.body) < 1_000]
VALID: Final = {SINGLE: _SINGLES, BATCH: [batch(*_SINGLES[:rows]) for rows in (1, 2, 5)]}


# --- Answers


class Answer(NamedTuple):
    """What was told to one body: the status, 0 for nothing; how many prices; what is wrong with it, if anything is."""

    status: int
    seconds: float
    prices: int
    fault: str | None


def send(url: str, path: str, sent: Sequence[Body]) -> list[Answer]:
    """Post each body, over a few connections that are kept."""
    shares = [sent[first::CONNECTIONS] for first in range(CONNECTIONS)]
    gc.collect()
    gc.freeze()  # else this process may stand still for a second, to look through all it holds, and answers seem slow
    try:
        with httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(CONNECTIONS) as pool:
            answers = pool.map(lambda share: [post(client, path, body) for body in share], shares)
            return list(chain(*answers))
    finally:
        gc.unfreeze()


def post(client: httpx.Client, path: str, body: Body) -> Answer:
    """Post one body and judge its answer."""
    headers = {} if body.content_type is None else {"Content-Type": body.content_type}
    begun = time.perf_counter()
    try:
        response = client.post(path, content=body.content, headers=headers)
    except httpx.TransportError as error:
        return Answer(0, time.perf_counter() - begun, 0, f"{asked(path, body)} is missing: {error!r}")
    seconds = time.perf_counter() - begun
    told = fault(path, response, seconds)
    prices = response.content.count(b'"predicted_price"')
    return Answer(response.status_code, seconds, prices, f"{asked(path, body)} {told}" if told else None)


def asked(path: str, body: Body) -> str:
    """A request in a line, short enough to be read; the seed gives the whole of it."""
    content, content_type = body
    return f"{path}: the answer to {len(content):,} bytes of {content_type}, {content[:500]!r},"


def fault(path: str, response: httpx.Response, seconds: float) -> str | None:
    """What is wrong with an answer; None when nothing is."""
    status, content = response.status_code, response.content
    is_refusal = status != httpx.codes.OK
    model = REFUSALS.get(status) if is_refusal else ANSWERS[path]
    if model is None:
        return f"status {status}"
    wrong = {
        f"took {seconds:.1f} s": seconds > SLOWEST_SECONDS,
        "is not said to be JSON": response.headers.get("Content-Type") != JSON,
        "is an echo": MARKER.encode() in content,
        f"is a refusal of {len(content):,} bytes": is_refusal and len(content) > MAX_REFUSAL_BYTES,
    }
    if any(wrong.values()):
        return ", ".join(what for what, is_so in wrong.items() if is_so)
    try:
        return fault_of_prices(model.model_validate_json(content))
    except ValidationError as error:
        return f"is not in the contract: {error.errors()[0]['msg']}"


def fault_of_prices(answer: BaseModel) -> str | None:
    """What is wrong with the prices, if it has any; to pydantic, JSON may say Infinity."""
    match answer:
        case Prediction():
            rows, count = [answer], 1
        case Predictions():
            rows, count = answer.predictions, answer.count
        case _:
            return None
    if count != len(rows):
        return f"has {len(rows)} rows, and says {count}"
    intervals = [(row.confidence_interval.lower, row.predicted_price, row.confidence_interval.upper) for row in rows]
    wrong = [interval for interval in intervals if not 0 < interval[0] <= interval[1] <= interval[2] < math.inf]
    return f"has bounds and price {wrong[0]}" if wrong else None
