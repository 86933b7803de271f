"""gunicorn's own corpus of requests, valid and invalid, each with the settings it is meant for.

It is in gunicorn's source distribution only; `make corpus` fetches that and puts the corpus where it is looked for.
"""

import os
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pytest
from gunicorn.config import Config

from tests.gunicorn_process import ROOT

SOURCE: Final = Path(os.environ.get("GUNICORN_SOURCE") or ROOT / ".venv" / "corpus")
FOLDER: Final = SOURCE / "tests" / "requests"
needs_corpus: Final = pytest.mark.skipif(not FOLDER.exists(), reason="gunicorn's corpus is not here: `make corpus`")

Settings = tuple[tuple[str, object], ...]


class Case(NamedTuple):
    """Bytes, the settings under which a server gets them, and what gunicorn's tests expect of its parser."""

    name: str
    sent: bytes
    settings: Settings
    expected: Any
    """The class of an error; for what is valid, one request or a list of them, as dictionaries."""


def cases(kind: Literal["invalid", "valid"]) -> list[Case]:
    """All of a kind; none where the corpus is not."""
    return [_case(path) for path in sorted((FOLDER / kind).glob("*.http"))]


def grouped(found: list[Case]) -> Mapping[Settings, list[Case]]:
    """Cases by their settings."""
    groups: dict[Settings, list[Case]] = {}
    for case in found:
        groups.setdefault(case.settings, []).append(case)
    return groups


def with_host(sent: bytes) -> bytes:
    """The same requests, with a Host where HTTP/1.1 wants one (RFC 9112, section 3.2); gunicorn's parser does not."""
    return sent if HAS_A_BODY.match(sent) else WITHOUT_HOST.sub(rb"\1Host: a\r\n", sent)


HAS_A_BODY: Final = re.compile(rb"[^\r\n]+ HTTP/1\.0\r\nContent-Length: ")  # which looks like a request
WITHOUT_HOST: Final = re.compile(rb"( HTTP/1\.1\r\n)(?!(?:[^\r\n]+\r\n)*host:)", re.IGNORECASE)


def config_of(settings: Settings) -> Config:
    """gunicorn's configuration with these settings."""
    config = Config()
    for name, value in settings:
        config.set(name, value)
    return config


def _case(path: Path) -> Case:
    said = runpy.run_path(str(path.with_suffix(".py")), init_globals={"uri": str, "cfg": Config()})
    return Case(path.stem, _sent(path.read_bytes()), _changed(said["cfg"]), said["request"])


def _changed(config: Config) -> Settings:
    """What differs from the defaults, as it would be written in a configuration file."""
    pairs = {name: setting.get() for name, setting in config.settings.items()}
    changed = {name: value for name, value in pairs.items() if value != DEFAULTS[name]}
    return tuple((name, ",".join(value) if isinstance(value, list) else value) for name, value in changed.items())


DEFAULTS: Final[Mapping[str, object]] = {name: setting.get() for name, setting in Config().settings.items()}


def _sent(written: bytes) -> bytes:
    """What a file stands for: its own line ends are for who reads it, those that are meant are written as escapes."""
    meant = written.replace(b"\n", b"")
    for escape, byte in ESCAPES.items():
        meant = meant.replace(escape, byte)
    return re.sub(rb"\\x([0-9a-fA-F]{2})", lambda found: bytes([int(found[1], 16)]), meant)


ESCAPES: Final = {rb"\r": b"\r", rb"\n": b"\n", rb"\t": b"\t", rb"\0": b"\0"}
