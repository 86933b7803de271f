"""Who may ask what: each route, each kind of key, both ways to an answer; and nobody hears of a secret."""

import re
import time
from collections import Counter
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import pytest
from flask.testing import FlaskClient

from pricing.artifacts.store import REPORT_FILE, Artifact, Store
from service.access.api_keys import SCOPES, Keys, KeySnapshot, KeyStore, Scope
from service.access.guard import api_key_from
from service.api.routes import ACCESS
from service.app import create_app
from service.observability.observer import OTHER, Routes
from tests.fake_service import DEFAULTS, HOUSE, NOW, Always, fake_app, fake_model, resources
from tests.fakes import ThousandDollarsASquareFoot
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn

ROUTES: Final[dict[str, Scope | None]] = {
    "POST /predict": "predict",
    "POST /predict/batch": "predict",
    "GET /models": "read",
    "GET /model/info": "read",
    "GET /model/report": "read",
    "GET /metrics": "metrics",
    "GET /health": None,
    "GET /health/live": None,
    "GET /health/ready": None,
    "GET /v2": None,
    "GET /v2/": None,
    "GET /v2/health/live": None,
    "GET /v2/health/ready": None,
    "GET /v2/models": "read",
    "GET /v2/models/appraiser": "read",
    "GET /v2/models/appraiser/ready": None,
    "GET /v2/models/appraiser/versions/v1.0.0": "read",
    "GET /v2/models/appraiser/versions/v1.0.0/ready": None,
    "POST /v2/models/appraiser/infer": "predict",
    "POST /v2/models/appraiser/versions/v1.0.0/infer": "predict",
    "GET /": None,
    "GET /static/page.js": None,
    "GET /docs": None,
    "GET /docs/": None,
    "GET /docs/static/docs.js": None,
    "GET /docs/swagger/css/swagger-ui.css": None,
    "GET /openapi.json": None,
}
"""Written out, and not derived: this is what was promised."""
REALM: Final = 'Bearer realm="Appraiser"'
INVALID: Final = f'{REALM}, error="invalid_token"'
NOT_VALID: Final = "This key is not valid."
SECRET: Final = 43  # characters at the end of a key


class Presented(NamedTuple):
    """A key, or none, and how it is answered where one is wanted."""

    name: str
    text: str | None
    challenge: str
    detail: str


def wrong_keys(store: KeyStore) -> list[Presented]:
    """Every kind of key but the right ones."""
    (expired, expired_text), (revoked, revoked_text) = (store.create(name, SCOPES, None) for name in ("old", "lost"))
    store.rotate(expired.id, timedelta(0))
    store.revoke(revoked.id)
    return [
        Presented(
            "none",
            None,
            REALM,
            "An API key is required. Send it in the X-API-Key header or as `Authorization: Bearer <key>`.",
        ),
        Presented("malformed", "a-secret-of-somebody", INVALID, NOT_VALID),
        Presented("unknown", f"apr_{'0' * 12}_{expired_text[-SECRET:]}", INVALID, NOT_VALID),
        Presented("another's secret", f"{expired_text[:-SECRET]}{revoked_text[-SECRET:]}", INVALID, NOT_VALID),
        Presented("expired", expired_text, INVALID, "This key has expired."),
        Presented("revoked", revoked_text, INVALID, "This key has been revoked."),
    ]


def with_key(text: str | None) -> list[dict[str, str]]:
    """The ways of presenting a key, or none."""
    if text is None:
        return [{}, {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="}]
    return [{"X-API-Key": text}, {"Authorization": f"Bearer {text}"}, {"Authorization": f"bEaReR  {text}"}]


def ask(client: httpx.Client, route: str, headers: dict[str, str]) -> httpx.Response:
    method, _, path = route.partition(" ")
    body: object = {"/predict": HOUSE, "/predict/batch": {"houses": [HOUSE]}}.get(path)
    if path.endswith("/infer"):
        body = {"inputs": [{"name": n, "shape": [1], "datatype": "FP64", "data": [v]} for n, v in HOUSE.items()]}
    return client.request(method, path, json=body, headers=headers, follow_redirects=True)


def told(response: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, challenge and sentence."""
    named = "error" if response.request.url.path.startswith("/v2") else "detail"
    detail = response.json()[named] if response.status_code >= 400 else None
    return response.status_code, response.headers.get("WWW-Authenticate"), detail


def expected(has: Scope, wants: Scope | None) -> tuple[int, str | None, str | None]:
    """What a good key is told."""
    if wants in {None, has} or has == "admin":
        return 200, None, None
    return 403, f'{REALM}, error="insufficient_scope", scope="{wants}"', f"This key lacks the scope {wants}."


def guarded(store: Store, **settings: str) -> AbstractContextManager[GunicornProcess]:
    environment = {"APPRAISER_ARTIFACTS": str(store.root), "APPRAISER_REQUIRE_KEYS": "true"} | settings
    return gunicorn(None, cwd=ROOT, workers=2, env=environment)


@pytest.mark.parametrize("middleware", ["true", "false"])
def test_every_kind_of_key_on_every_route_is_answered_exactly_and_no_secret_is_kept(
    store: Store, middleware: str
) -> None:
    (store.root / "v1.0.0" / REPORT_FILE).write_bytes(b"a report")
    keys = KeyStore(store.root)
    wrong = wrong_keys(keys)
    right = {scope: keys.create(scope, [scope], timedelta(days=1)) for scope in SCOPES}
    answers = []
    with guarded(store, APPRAISER_PREDICTION_MIDDLEWARE=middleware) as server:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for route, wants in ROUTES.items():
                for name, text, challenge, detail in wrong:
                    for headers in with_key(text):
                        answers.append(ask(client, route, headers))
                        refused = (200, None, None) if wants is None else (401, challenge, detail)
                        assert told(answers[-1]) == refused, (route, name)
                for has, (_, text) in right.items():
                    for headers in with_key(text):
                        answers.append(ask(client, route, headers))
                        assert told(answers[-1]) == expected(has, wants), (route, has)
            metrics = ask(client, "GET /metrics", {"X-API-Key": right["metrics"][1]}).text
        server.stop()
        journal = "".join(path.read_text() for path in server.journal.glob("*.jsonl"))
        log = server.log

    assert len(answers) == len(ROUTES) * (2 + 3 * 5 + 3 * 4)
    for text in [*(key.text for key in wrong), *(text for _, text in right.values())]:
        secret = text and text[-SECRET:]
        for place in (log, metrics, journal, *(f"{answer.headers}{answer.text}" for answer in answers)):
            assert secret is None or secret not in place
    for key, _ in right.values():
        assert f'"key_id":"{key.id}"' in log
        assert f'key_id="{key.id}"' in metrics
        assert (f'"key_id":"{key.id}"' in journal) == (not {"predict", "admin"}.isdisjoint(key.scopes))


@pytest.mark.parametrize(("keys", "warns"), [("false", True), ("true", False)])
def test_a_service_that_asks_for_no_keys_says_so_once_at_its_start(store: Store, keys: str, *, warns: bool) -> None:
    with guarded(store, APPRAISER_REQUIRE_KEYS=keys) as server:
        assert server.log.count("Authentication is off") == warns


def test_a_revoked_key_is_refused_by_every_worker_within_a_second_and_a_half(store: Store) -> None:
    keys = KeyStore(store.root)
    key, text = keys.create("soon revoked", ["read"], None)
    with guarded(store) as server:

        def statuses() -> Counter[int]:
            """Of many new connections: among so many, both workers are asked."""
            ask = partial(httpx.get, f"{server.url}/models", headers={"X-API-Key": text})
            return Counter(ask().status_code for _ in range(40))

        assert statuses() == {200: 40}
        keys.revoke(key.id)
        time.sleep(1.5)  # the promise is a time

        assert statuses() == {401: 40}


# --- In process


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "artifacts")


def with_keys(published: Artifact, store: KeyStore | None) -> FlaskClient:
    return fake_app(published.manifest, keys=None if store is None else Keys(store)).test_client()


def test_without_keys_everybody_may_ask(published: Artifact) -> None:
    client = with_keys(published, None)

    assert client.post("/predict", json=HOUSE).status_code == 200
    assert client.post("/predict", json=HOUSE, headers={"X-API-Key": "whatever"}).status_code == 200


def test_a_key_that_is_no_header_is_no_key(published: Artifact, keys: KeyStore) -> None:
    _, text = keys.create("a client", ["predict"], None)

    found = with_keys(published, keys).post(f"/predict?api_key={text}", json=HOUSE, headers={"Cookie": f"key={text}"})

    assert found.status_code == 401


def test_the_first_of_both_headers_counts_even_if_it_is_wrong(published: Artifact, keys: KeyStore) -> None:
    _, text = keys.create("a client", ["predict"], None)
    headers = {"X-API-Key": "wrong", "Authorization": f"Bearer {text}"}

    assert with_keys(published, keys).post("/predict", json=HOUSE, headers=headers).status_code == 401


@pytest.mark.parametrize("empty", ["", " ", "\t ", ",", ", ,"])
def test_an_empty_header_is_no_key_and_does_not_hide_the_other(published: Artifact, keys: KeyStore, empty: str) -> None:
    _, text = keys.create("a client", ["predict"], None)
    client = with_keys(published, keys)

    def ask(**headers: str) -> tuple[int, str | None]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        found = client.post("/predict", json=HOUSE, headers=named)
        return found.status_code, found.headers.get("WWW-Authenticate")

    assert ask(X_API_Key=empty, Authorization=f"Bearer {text}") == (200, None)
    assert ask(X_API_Key=text, Authorization=empty) == (200, None)
    assert ask(X_API_Key=empty) == (401, REALM)
    assert ask(Authorization=empty) == (401, REALM)
    assert ask(X_API_Key=empty, Authorization=f"Bearer {empty}") == (401, REALM)
    assert ask(X_API_Key=empty, Authorization="Bearer wrong") == (401, INVALID)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("a", "a"),
        ("a, ", "a"),  # twice, once empty: the server joins them
        (", a", "a"),
        ("a, b", "a, b"),  # two keys, which are no key of ours
        ("a, a", "a, a"),
        ("\xa0", "\xa0"),
    ],
)
def test_a_header_that_comes_twice_is_one_key_only_if_the_other_is_empty(header: str, key: str) -> None:
    assert api_key_from({"HTTP_X_API_KEY": header}) == key
    assert api_key_from({"HTTP_AUTHORIZATION": f"Bearer {header}"}) == key
    assert api_key_from({"HTTP_AUTHORIZATION": f", Bearer {header}"}) == key


@pytest.mark.parametrize(("lifetime", "status"), [(timedelta(0), 401), (timedelta(microseconds=1), 200)])
def test_a_key_ends_at_its_time(published: Artifact, tmp_path: Path, lifetime: timedelta, status: int) -> None:
    keys = KeyStore(tmp_path / "artifacts", clock=lambda: datetime.fromtimestamp(NOW / 1e9, UTC))
    _, text = keys.create("a client", ["predict"], lifetime)

    assert with_keys(published, keys).post("/predict", json=HOUSE, headers={"X-API-Key": text}).status_code == status


@pytest.mark.parametrize(
    "path",
    ["//", "", "predict", "/predictt", "//predict", "///predict", "/predict//", "/Predict", "/predict/.", "//metrics/"],
)
def test_what_is_at_no_path_reaches_no_view_whatever_flask_would_make_of_it(
    published: Artifact, keys: KeyStore, path: str
) -> None:
    client = with_keys(published, keys)

    for method in ("POST", "GET"):
        found = client.open(method=method, json=HOUSE, environ_overrides={"PATH_INFO": path})
        assert (found.status_code, found.get_json()) == (
            404,
            {"detail": "This path does not exist; /docs lists the endpoints."},
        )


@pytest.mark.parametrize("path", ["/predict/", "/predict/batch/", "/models/", "/model/info/", "/metrics/"])
def test_a_slash_at_the_end_is_no_way_around_a_key(published: Artifact, keys: KeyStore, path: str) -> None:
    client = with_keys(published, keys)

    for method in ("POST", "GET", "HEAD", "OPTIONS"):
        assert client.open(path, method=method, json=HOUSE).status_code == 401


@pytest.mark.parametrize("path", ["/", "*"])
def test_a_check_of_the_server_itself_needs_no_key(published: Artifact, keys: KeyStore, path: str) -> None:
    client = with_keys(published, keys)

    found = client.options("/", environ_overrides={"PATH_INFO": path})
    assert (found.status_code, found.data, found.headers["Allow"]) == (204, b"", "GET, HEAD, OPTIONS, POST")
    assert client.get("/", environ_overrides={"PATH_INFO": path}).status_code == (200 if path == "/" else 404)


def test_every_route_of_the_application_says_who_may_ask_for_it(published: Artifact) -> None:
    app = fake_app(published.manifest)
    routes = Routes(app.url_map)

    assert {routes.of(re.sub("<[^>]*>", "x", rule.rule)) for rule in app.url_map.iter_rules()} == set(ACCESS)
    assert routes.of("/nowhere") == OTHER not in ACCESS
    named = {route.partition(" ")[2]: scope for route, scope in ROUTES.items()}
    assert {routes.of(path): scope for path, scope in named.items()} == {
        path: access.scope for path, access in ACCESS.items()
    }


def test_an_empty_ring_lets_nobody_pass(published: Artifact, keys: KeyStore) -> None:
    assert KeySnapshot().authenticate("") is None
    assert with_keys(published, keys).post("/predict", json=HOUSE).status_code == 401


def test_the_document_says_that_a_key_is_wanted_only_where_one_is(published: Artifact) -> None:
    settings = DEFAULTS.model_copy(update={"require_keys": True, "rate_limit": "100/second"})
    app = fake_app(published.manifest, settings=settings)
    document = app.test_client().get("/openapi.json").get_json()

    for path, item in document["paths"].items():
        (operation,) = item.values()
        scope, limited = ACCESS[path]
        assert operation.get("security", []) == ([{"key": [scope]}, {"bearer": [scope]}] if scope else [])
        assert ({"401", "403"} <= set(operation["responses"])) == (scope is not None)
        assert ("429" in operation["responses"]) == (limited or scope is not None)
    assert set(document["components"]["securitySchemes"]) == {"key", "bearer"}


# --- What is refused is limited by address


class Asking:
    """A service with keys and a limit of three an hour, asked from addresses of a test's choice."""

    def __init__(self, published: Artifact, store: KeyStore) -> None:
        settings = DEFAULTS.model_copy(update={"rate_limit": "3/hour", "require_keys": True})
        self._client = fake_app(published.manifest, settings=settings, keys=Keys(store)).test_client()

    def __call__(self, key: str | None, route: str = "POST /predict", address: str = "203.0.113.9") -> int:
        method, _, path = route.partition(" ")
        headers = {} if key is None else {"X-API-Key": key}
        overrides = {"REMOTE_ADDR": address}
        return self._client.open(
            path, method=method, json=HOUSE, headers=headers, environ_overrides=overrides
        ).status_code


@pytest.fixture
def asking(published: Artifact, keys: KeyStore) -> Asking:
    return Asking(published, keys)


@pytest.mark.parametrize("kind", ["none", "malformed", "unknown", "another's secret", "expired", "revoked"])
def test_wrong_keys_are_limited_by_address_and_a_good_key_beside_them_is_not(
    asking: Asking, keys: KeyStore, kind: str
) -> None:
    then = KeyStore(keys.root, clock=lambda: datetime.fromtimestamp(NOW / 1e9, UTC))
    (wrong,) = (found.text for found in wrong_keys(then) if found.name == kind)
    _, good = keys.create("a neighbor", ["predict"], None)

    assert [asking(wrong) for _ in range(5)] == [401, 401, 401, 429, 429]
    assert asking(wrong, "GET /metrics") == 429
    assert asking(wrong, address="203.0.113.10") == 401
    assert [asking(good) for _ in range(4)] == [200, 200, 200, 429]
    assert asking(None, "GET /health") == 200


@pytest.mark.parametrize(
    ("route", "status"), [("POST /predict", 403), ("GET /models", 403), ("GET /nowhere", 404), ("PUT /nowhere", 404)]
)
def test_what_a_good_key_is_refused_is_limited_by_address_and_never_costs_what_it_may(
    asking: Asking, keys: KeyStore, route: str, status: int
) -> None:
    _, metrics = keys.create("who watches", ["metrics"], None)
    _, good = keys.create("a neighbor", ["predict"], None)

    assert [asking(metrics, route) for _ in range(4)] == [status] * 3 + [429]
    assert [asking(good) for _ in range(4)] == [200, 200, 200, 429]
    assert {asking(metrics, "GET /metrics") for _ in range(5)} == {200}


def test_without_keys_what_is_nowhere_and_what_takes_no_such_method_is_limited_too(published: Artifact) -> None:
    settings = DEFAULTS.model_copy(update={"rate_limit": "3/hour"})
    for path, status in (("/nowhere", 404), ("/predict", 405), ("/docs/static/nothing", 404)):
        client = fake_app(published.manifest, settings=settings).test_client()
        assert [client.get(path).status_code for _ in range(4)] == [status] * 3 + [429]


def test_the_files_of_a_page_are_not_limited_but_the_page_is(published: Artifact) -> None:
    settings = DEFAULTS.model_copy(update={"rate_limit": "3/hour"})
    client = fake_app(published.manifest, settings=settings).test_client()

    for _ in range(9):
        with client.get("/static/page.js") as file:
            assert file.status_code == 200
    assert [client.get("/").status_code for _ in range(4)] == [200] * 3 + [429]


def test_addresses_of_one_ipv6_network_are_one_client(asking: Asking) -> None:
    assert [asking(None, address=f"2001:db8::{number}") for number in range(1, 6)] == [401, 401, 401, 429, 429]
    assert asking(None, address="2001:db8:0:1::1") == 401
    assert [asking(None, address=f"::ffff:203.0.113.{number}") for number in range(1, 6)] == [401] * 5


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wall_clock_that_is_set_changes_no_limit_and_no_cached_answer(published: Artifact, hours: int) -> None:
    now = NOW
    settings = DEFAULTS.model_copy(update={"rate_limit": "3/minute"})
    models = Always(fake_model(published.manifest, ThousandDollarsASquareFoot()))
    client = create_app(settings, resources(models), lambda: now).test_client()
    asked = [client.post("/predict", json=HOUSE) for _ in range(2)]
    now += hours * 3_600_000_000_000
    asked += [client.post("/predict", json=HOUSE) for _ in range(2)]

    assert [found.status_code for found in asked] == [200, 200, 200, 429]
    assert [found.headers.get("X-Cache") for found in asked] == ["miss", "hit", "hit", None]
    assert 50 < int(asked[-1].headers["Retry-After"]) <= 60


def test_a_key_expires_at_a_time_of_the_wall_clock(published: Artifact, tmp_path: Path) -> None:
    now = NOW
    store = KeyStore(tmp_path / "artifacts", clock=lambda: datetime.fromtimestamp(NOW / 1e9, UTC))
    _, text = store.create("a client", ["predict"], timedelta(minutes=30))
    models = Always(fake_model(published.manifest, ThousandDollarsASquareFoot()))
    client = create_app(DEFAULTS, resources(models, keys=Keys(store)), lambda: now).test_client()

    statuses = []
    for hours in (0, 1, -1, -1):
        now += hours * 3_600_000_000_000
        statuses.append(client.post("/predict", json=HOUSE, headers={"X-API-Key": text}).status_code)
    assert statuses == [200, 401, 200, 200]
