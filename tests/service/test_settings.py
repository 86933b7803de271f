"""Settings are read once, refused with a sentence when they are wrong, and described."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import pytest
from pydantic import ValidationError

from service.settings import Settings, read_settings

PREFIX: Final = "APPRAISER_"
ROW: Final = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)

READ: Final = [
    ("APPRAISER_ARTIFACTS", "/srv/artifacts", Path("/srv/artifacts")),
    ("APPRAISER_WORKER", "service.worker.AppraiserWorker", "own"),
    ("APPRAISER_WORKER", "gthread", "gthread"),
    ("APPRAISER_WORKER", "sync", "sync"),
    ("APPRAISER_PREDICTION_MIDDLEWARE", "false", False),
    ("APPRAISER_MAX_BATCH_ROWS", "1", 1),
    ("APPRAISER_MAX_BATCH_ROWS", "10000", 10_000),
    ("APPRAISER_MAX_BODY_BYTES", "1024", 1_024),
    ("APPRAISER_MAX_IN_HAND", "1", 1),
    ("APPRAISER_HEADER_SECONDS", "0.5", 0.5),
    ("APPRAISER_BODY_SECONDS", "60", 60.0),
    ("APPRAISER_WRITE_SECONDS", "1e1", 10.0),
    ("appraiser_max_batch_rows", "7", 7),
    ("APPRAISER_REQUIRE_KEYS", "true", True),
    ("APPRAISER_RATE_LIMIT", "100/second", "100/second"),
    ("APPRAISER_RATE_LIMIT_STORAGE", "redis://:secret@cache:6379/1", "redis://:secret@cache:6379/1"),
    ("APPRAISER_RATE_LIMIT_STORAGE", "redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
    ("APPRAISER_RATE_LIMIT_ON_FAILURE", "closed", "closed"),
    ("APPRAISER_TRUSTED_PROXIES", "10.0.0.2", (ip_network("10.0.0.2/32"),)),
    ("APPRAISER_TRUSTED_PROXIES", "unix", ("unix",)),
    ("APPRAISER_TRUSTED_PROXIES", "unix, 10.0.0.2", ("unix", ip_network("10.0.0.2/32"))),
    ("APPRAISER_RATE_LIMIT_IPV6_PREFIX", "56", 56),
    ("APPRAISER_TRUSTED_PROXIES", "10.0.0.0/8, fd00::1", (ip_network("10.0.0.0/8"), ip_network("fd00::1/128"))),
]
REFUSED: Final = [
    ("APPRAISER_RATE_LIMIT", "100", "String should match pattern '^$|^[1-9][0-9]{0,8}/(second|minute|hour|day)$'"),
    ("APPRAISER_RATE_LIMIT", "0/hour", "String should match pattern '^$|^[1-9][0-9]{0,8}/(second|minute|hour|day)$'"),
    (
        "APPRAISER_RATE_LIMIT_STORAGE",
        "redis://cache:port",
        "Value error, Port could not be cast to integer value as 'port'",
    ),
    ("APPRAISER_RATE_LIMIT_STORAGE", "cache:6379", "String should match pattern '^memory://$|^redis(s|\\+unix)?://.'"),
    ("APPRAISER_RATE_LIMIT_ON_FAILURE", "maybe", "Input should be 'open' or 'closed'"),
    ("APPRAISER_WORKER", "eventlet", "Input should be 'own', 'gthread' or 'sync'"),
    ("APPRAISER_PREDICTION_MIDDLEWARE", "maybe", "Input should be a valid boolean, unable to interpret input"),
    ("APPRAISER_MAX_BATCH_ROWS", "0", "Input should be greater than or equal to 1"),
    ("APPRAISER_MAX_BATCH_ROWS", "10001", "Input should be less than or equal to 10000"),
    ("APPRAISER_MAX_BATCH_ROWS", "1e3", "Input should be a valid integer, unable to parse string as an integer"),
    ("APPRAISER_MAX_BODY_BYTES", "1023", "Input should be greater than or equal to 1024"),
    ("APPRAISER_MAX_IN_HAND", "0", "Input should be greater than or equal to 1"),
    ("APPRAISER_HEADER_SECONDS", "0", "Input should be greater than 0"),
    ("APPRAISER_BODY_SECONDS", "-1", "Input should be greater than 0"),
    ("APPRAISER_WRITE_SECONDS", "nan", "Input should be a finite number"),
    ("APPRAISER_WRITE_SECONDS", "inf", "Input should be a finite number"),
    ("APPRAISER_RATE_LIMIT_IPV6_PREFIX", "0", "Input should be greater than or equal to 1"),
    ("APPRAISER_RATE_LIMIT_IPV6_PREFIX", "129", "Input should be less than or equal to 128"),
    ("APPRAISER_TRUSTED_PROXIES", "unix:/run/x", "value is not a valid IPv4 or IPv6 network"),
    ("APPRAISER_TRUSTED_PROXIES", "*", "value is not a valid IPv4 or IPv6 network"),
    ("APPRAISER_TRUSTED_PROXIES", "10.0.0.2/8", "value is not a valid IPv4 or IPv6 network"),
    ("APPRAISER_WRITE_SECONDS", "soon", "Input should be a valid number, unable to parse string as a number"),
]


@pytest.fixture(autouse=True)
def _no_settings_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_without_variables_every_setting_has_its_default() -> None:
    assert read_settings() == Settings.model_construct()


@pytest.mark.parametrize(("variable", "text", "value"), READ)
def test_a_variable_sets_its_setting_and_no_other(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)

    changed = {variable.upper().removeprefix(PREFIX).lower(): value}
    assert read_settings() == Settings.model_construct().model_copy(update=changed)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(PREFIX + name.upper(), "")

    assert read_settings() == Settings.model_construct()


@pytest.mark.parametrize(("variable", "text", "sentence"), REFUSED)
def test_a_wrong_value_is_refused_with_its_name_and_its_bound(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, text)

    with pytest.raises(SystemExit) as refused:
        read_settings()

    assert refused.value.code == f"{variable}={text!r}: {sentence}"


def test_each_wrong_value_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPRAISER_MAX_BATCH_ROWS", "0")
    monkeypatch.setenv("APPRAISER_BODY_SECONDS", "0")

    with pytest.raises(SystemExit) as refused:
        read_settings()

    assert str(refused.value.code).splitlines() == [
        "APPRAISER_MAX_BATCH_ROWS='0': Input should be greater than or equal to 1",
        "APPRAISER_BODY_SECONDS='0': Input should be greater than 0",
    ]


def test_a_password_in_an_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPRAISER_RATE_LIMIT_STORAGE", "redis://me:secret@cache:port")

    with pytest.raises(SystemExit) as refused:
        read_settings()

    assert str(refused.value.code).startswith("APPRAISER_RATE_LIMIT_STORAGE='redis://...@cache:port': ")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().max_batch_rows = 2


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_default_and_a_sentence(name: str) -> None:
    field = Settings.model_fields[name]

    assert not field.is_required()
    assert field.description
    assert field.description.endswith(".")
