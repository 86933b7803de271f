"""Every setting of the service, declared once: default, unit and reason. docs/settings.md lists them from here."""

import re
import socket
import sys
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    PlainValidator,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.limits import DEFAULTS

PASSWORD: Final = re.compile(r"//[^/@\s]*@")  # in an address; messages of the start are kept in logs
IN_MEMORY: Final = "memory://"
OUR_WORKER: Final = "worker.gunicorn_worker.AppraiserWorker"
FORMER_NAME: Final = "service.worker.AppraiserWorker"  # of our worker, before it had a short one

UNIX: Final = "unix"
Proxy = IPv4Network | IPv6Network | Literal["unix"]
"""Whose word is believed: a network's, or that of whoever may write to a UNIX socket of ours."""
PREFIX: Final = "APPRAISER_"  # of the environment variables
IPV6_PREFIX: Final = 64

OnFailure = Literal["open", "closed"]
Worker = Annotated[
    Literal["own", "gthread", "sync"], BeforeValidator(lambda name: "own" if name == FORMER_NAME else name)
]


def host_name() -> str:
    """The host's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())[:64] or "host"


def _split(text: object) -> object:
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else text


def _proxy(value: object) -> object:
    return value if value == UNIX else IPvAnyNetwork(value)  # type: ignore[operator]  # to mypy it is a union


LISTED: Final = BeforeValidator(_split)
Origin = Annotated[str, Field(pattern=r"^\*$|^https?://[^/\s,]+$")]


class Settings(BaseSettings):
    """Read once from APPRAISER_* variables at the start of the process, then passed on."""

    # An empty variable is as good as none, as it is for `appraiser` and for make.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, allow_inf_nan=False, extra="ignore"
    )

    artifacts: Path = Field(
        default=Path("artifacts"),
        description="Folder of the published versions and the deployment; the service only reads it.",
    )
    run: Path = Field(
        default=Path("run"),
        description="Folder in which workers publish their state; on their host, shared with `appraiser promote`.",
    )
    journal: Path = Field(
        default=Path("journal"),
        description="Folder of the journal, one line for every prediction; keep it on a durable disk.",
    )
    instance: str = Field(
        default_factory=host_name,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of this service in its journal; each of those that share a journal needs its own.",
    )
    journal_segment_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1_024,
        description="Size at which a segment of the journal is closed and compressed; midnight (UTC) closes one too.",
    )
    journal_keep_days: int = Field(
        default=400,
        ge=1,
        description="Days for which the journal is kept: last Tuesday, and the same season of last year.",
    )
    cache_size: int = Field(
        default=1_000,
        ge=0,
        description="Entries of the cache of single predictions in each worker, about 650 bytes each; 0 turns it off.",
    )
    max_version_age_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days since its last sale after which a version is reported as outdated; 0 turns it off.",
    )
    worker: Worker = Field(
        default="own", description="Worker class of gunicorn. The stock ones have no deadline for slow clients."
    )
    prediction_middleware: bool = Field(
        default=True, description="Answer predictions in front of Flask's dispatch, which costs a third of a request."
    )
    require_keys: bool = Field(
        default=False, description="Whether clients need a key (`appraiser keys`); health and documentation stay open."
    )
    rate_limit: str = Field(
        default="",
        pattern=r"^$|^[1-9][0-9]{0,8}/(second|minute|hour|day)$",
        description="Requests allowed for each key, or each address without keys, in any such window: `100/second`.",
    )
    rate_limit_storage: str = Field(
        default=IN_MEMORY,
        pattern=r"^memory://$|^redis(s|\+unix)?://.",
        description="Where requests are counted: in each worker, or in Redis for all workers (`redis://host:6379`).",
    )
    rate_limit_ipv6_prefix: int = Field(
        default=IPV6_PREFIX,
        ge=1,
        le=128,
        description="Bits of an IPv6 address that identify a client in a rate limit: one client has a whole /64.",
    )
    rate_limit_on_failure: OnFailure = Field(
        default="open",
        description="While Redis does not answer within 20 ms: `open` accepts requests, `closed` refuses them (503).",
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, LISTED] = Field(
        default=(),
        description="Origins whose pages may call the API, `https://a.example,https://b.example`; `*` is all.",
    )
    max_batch_rows: int = Field(
        default=1_000,
        ge=1,
        le=10_000,
        description="Houses in one batch; more would hold up the other requests of a worker.",
    )
    inference_model_name: str = Field(
        default="appraiser",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of the model in the Open Inference Protocol: `/v2/models/appraiser/infer`.",
    )
    max_inference_rows: int = Field(
        default=10_000,
        ge=1,
        le=100_000,
        description="Houses in one request of the Open Inference Protocol; 10,000 take about 50 ms of a worker.",
    )
    max_body_bytes: int = Field(
        default=DEFAULTS.max_body_bytes,
        ge=1_024,
        description="Bytes of the body of a batch or an inference request; a batch of 1,000 houses has about 100,000.",
    )
    max_predict_body_bytes: int = Field(
        default=16 * 1024,
        ge=1_024,
        description="Bytes of any other body than that of a batch; a house has 100, and sixty more columns 2,000.",
    )
    max_in_hand: int = Field(
        default=DEFAULTS.max_in_hand,
        ge=1,
        description="Bodies still arriving and answers not yet read that a worker buffers; a further body is a 503.",
    )
    header_seconds: float = Field(
        default=DEFAULTS.header_seconds,
        gt=0,
        description="Time limit in seconds for receiving a complete request header; slower connections are closed.",
    )
    body_seconds: float = Field(
        default=DEFAULTS.body_seconds,
        gt=0,
        description="Time limit in seconds for receiving a request body, from the end of its header.",
    )
    write_seconds: float = Field(
        default=DEFAULTS.write_seconds,
        gt=0,
        description="Time limit in seconds for a client to read its answer, and to close after the service has.",
    )
    keepalive_seconds: int = Field(
        default=75,
        ge=1,
        le=3_600,
        description="Seconds for which an idle connection is kept; longer than the load balancer in front keeps it.",
    )
    trusted_proxies: Annotated[tuple[Annotated[Proxy, PlainValidator(_proxy)], ...], NoDecode, LISTED] = Field(
        default=(),
        description="Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted: addresses or networks, "
        "separated by commas; `unix` is a proxy at a UNIX socket.",
    )

    @field_validator("rate_limit_storage")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value != IN_MEMORY:
            from redis.connection import parse_url  # noqa: PLC0415 -- 6 MB in each process, where nobody has a Redis

            parse_url(value.replace("redis+unix", "unix", 1))  # type: ignore[no-untyped-call]
        return value


class Hosting(BaseSettings):
    """Variables that hosts set for any service: names without a prefix."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    port: int = Field(default=8000, ge=0, le=65_535, description="Port; 0 is any that is free.")
    web_concurrency: int = Field(default=0, ge=0, le=1_000, description="Worker processes; 0 is one for each CPU.")


def read_settings() -> Settings:
    """Read the APPRAISER_ variables. Raises SystemExit with one line for each setting that is wrong."""
    return _read(Settings)


def read_hosting() -> Hosting:
    """Read PORT and WEB_CONCURRENCY. Raises SystemExit in the same way."""
    return _read(Hosting)


def check_platform(platform: str = sys.platform) -> None:
    """Raise SystemExit with a sentence where this program does not run."""
    if platform != "linux":
        msg = f"Appraiser runs on Linux, and this is {platform}; run it in a container (docs/containers.md)"
        raise SystemExit(msg)


AnySettings = TypeVar("AnySettings", bound=BaseSettings)


def _read(kind: type[AnySettings]) -> AnySettings:
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind()
    except ValidationError as error:
        lines = [f"{prefix}{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise SystemExit(PASSWORD.sub("//...@", "\n".join(lines))) from None
