"""What the worker uses of gunicorn beyond its documentation: each name, and what is expected of it."""

import ast
import inspect
from typing import Final

from gunicorn.asgi.parser import PythonProtocol
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.base import Worker

from tests.gunicorn_process import ROOT

PRIVATE: Final = {"_buffer", "_parse_proxy_protocol"}
"""Names with an underscore; only worker/proxy_protocol.py uses them."""


def private_names(module: str) -> set[str]:
    """Names with an underscore that a module takes from other objects than its own."""
    tree = ast.parse((ROOT / "worker" / module).read_bytes())
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    return {
        node.attr
        for node in attributes
        if not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    }


def test_private_names_of_gunicorn_are_used_in_one_module_only() -> None:
    found = {path.name: private_names(path.name) for path in (ROOT / "worker").glob("*.py")}
    assert {name: names for name, names in found.items() if names} == {"proxy_protocol.py": PRIVATE}


def test_the_parser_reads_a_preamble_and_keeps_what_is_behind_it() -> None:
    parser = PythonProtocol(proxy_protocol="v1")
    parser._buffer.extend(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\nGET /")
    assert parser._parse_proxy_protocol() is True
    assert parser._buffer == b"GET /"
    assert (parser.proxy_protocol_info["client_addr"], parser.proxy_protocol_info["client_port"]) == ("192.0.2.1", 1234)


def test_half_a_preamble_is_waited_for() -> None:
    parser = PythonProtocol(proxy_protocol="v1")
    parser._buffer.extend(b"PROXY TCP4 192.0.2.1")
    assert parser._parse_proxy_protocol() is False


def test_the_worker_has_what_ours_overrides_and_calls() -> None:
    for name in ("init_process", "load_wsgi", "run", "notify"):
        assert callable(getattr(Worker, name)), name
    init = Worker.__init__
    names = {*init.__code__.co_names, *inspect.getfullargspec(init).args}
    assert {"ppid", "sockets", "cfg", "log", "alive", "nr", "max_requests"} <= names


def test_the_configuration_has_what_the_rules_read() -> None:
    config = Config()
    for name in (
        *("limit_request_line", "limit_request_fields", "limit_request_field_size", "header_map", "forwarder_headers"),
        *("secure_scheme_headers", "forwarded_allow_ips", "permit_unconventional_http_method", "proxy_protocol"),
        *("proxy_allow_ips", "keepalive", "graceful_timeout", "worker_connections", "root_path", "http2_cleartext"),
    ):
        assert hasattr(config, name), name
    assert [str(network) for network in config.forwarded_allow_networks()] == ["127.0.0.1/32", "::1/128"]
    assert [str(network) for network in config.proxy_allow_networks()] == ["127.0.0.1/32", "::1/128"]
    assert config.settings["pre_request"].get() is config.settings["pre_request"].default


def test_the_environ_of_all_requests_and_the_access_log_are_as_expected() -> None:
    assert {"wsgi.errors", "wsgi.version", "wsgi.multithread", "SERVER_SOFTWARE"} <= set(base_environ(Config()))
    assert list(inspect.signature(Logger.access).parameters) == ["self", "resp", "req", "environ", "request_time"]
