"""What deploy/ says to Prometheus and Grafana: it is valid, its alerts fire, and it names only what is counted.

And how docker-compose.yml surrounds the service; .ci/container looks at what the kernel makes of it.
"""

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from service.observability.metrics import METRICS

ROOT: Final = Path(__file__).resolve().parents[1]
DEPLOY: Final = ROOT / "deploy"
DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "appraiser.json"

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")

OF_PROMETHEUS: Final = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}
OF_A_TARGET: Final = {"job", "instance"}
WORDS: Final = {"and", "or", "unless", "by", "on", "ignoring", "group_left", "bool"}
SAMPLES_OF_A_HISTOGRAM: Final = {"_bucket": {"le"}, "_sum": set[str](), "_count": set[str]()}


def sample_names() -> dict[str, set[str]]:
    """Every name that a scrape may have, and its labels."""
    names = dict(OF_PROMETHEUS)
    for name, declared in METRICS.items():
        suffixes = SAMPLES_OF_A_HISTOGRAM if declared.kind == "histogram" else {"": set[str]()}
        names |= {name + suffix: {*declared.labels, *labels} for suffix, labels in suffixes.items()}
    return {name: labels | OF_A_TARGET for name, labels in names.items()}


def faults(query: str, legend: str = "") -> list[str]:
    """What a query, or its legend, names that no scrape has."""
    names = sample_names()
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", query)  # without texts and durations
    selectors = re.findall(r"(\w+)\{([^}]*)\}", bare)
    lists = re.findall(r"\b(?:by|on|ignoring|group_left)\s*\(([^)]*)\)", bare)
    rest = re.sub(r"\{[^}]*\}|\b(?:by|on|ignoring|group_left)\s*\([^)]*\)", " ", bare)
    used = set(re.findall(r"\b[A-Za-z_]\w*\b(?!\s*\()", rest)) - WORDS
    known = set[str]().union(*(names.get(name, set()) for name in used))
    grouped = {word for found in [*lists, *re.findall(r"\{\{(.*?)\}\}", legend)] for word in re.findall(r"\w+", found)}
    matched = [(name, label) for name, found in selectors for label in re.findall(r"(\w+)\s*[=!]", found)]
    return [
        *(f"no metric {name}" for name in sorted(used - names.keys())),
        *(f"no label {label} of {name}" for name, label in matched if label not in names.get(name, {label})),
        *(f"no label {label} in {query}" for label in sorted(grouped - known)),
    ]


def parsed(path: Path) -> Any:  # noqa: ANN401 -- whatever the file holds
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[Mapping[str, Any]]:
    return [rule for group in parsed(DEPLOY / "alerts.yml")["groups"] for rule in group["rules"]]


def targets() -> Iterator[tuple[str, str]]:
    """Each query of the dashboard and its legend, as variables ask them too."""
    dashboard = json.loads(DASHBOARD.read_bytes())
    for panel in dashboard["panels"]:
        yield from ((target["expr"], target["legendFormat"]) for target in panel.get("targets", []))
    yield from ((found["expr"], found["textFormat"]) for found in dashboard["annotations"]["list"])
    for variable in dashboard["templating"]["list"]:
        for asked in (variable["definition"], variable["query"]["query"]):  # what is shown, what is done
            yield re.sub(r"^label_values\((\w+), (\w+)\)$", r"group by (\2) (\1)", asked), ""


def queries() -> list[tuple[str, str]]:
    return [*targets(), *((rule["expr"], "") for rule in rules())]


def promtool(*arguments: str, cwd: Path = DEPLOY) -> str:
    """What it prints when it finds nothing wrong."""
    found = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"],
)
def test_promtool_finds_nothing_wrong(arguments: str) -> None:
    assert "SUCCESS" in promtool(*arguments.split())


@needs_promtool
def test_every_query_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    filled = [re.sub(r"\$__(?:rate_interval|range)", "1m", query) for query, _ in targets()]
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(filled)]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))

    assert f"SUCCESS: {len(recorded)} rules found" in promtool("check", "rules", "rules.json", cwd=tmp_path)


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    asked = [case for test in parsed(DEPLOY / "alerts_test.yml")["tests"] for case in test["alert_rule_test"]]
    alerts = [rule["alert"] for rule in rules()]

    assert {case["alertname"] for case in asked if case.get("exp_alerts")} == set(alerts)
    assert {case["alertname"] for case in asked if not case.get("exp_alerts")} == set(alerts)
    assert len(set(alerts)) == len(alerts) > 5  # one rule for each name, so a test of the name is one of the rule


def test_every_alert_says_how_bad_it_is_what_was_seen_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


@pytest.mark.parametrize(("query", "legend"), queries())
def test_dashboard_and_rules_name_only_what_is_counted(query: str, legend: str) -> None:
    assert faults(query, legend) == []


@pytest.mark.parametrize(
    ("query", "legend", "fault"),
    [
        ("sum(rate(appraiser_request_total[5m]))", "", "no metric appraiser_request_total"),
        ("appraiser_request_seconds > 1", "", "no metric appraiser_request_seconds"),
        ("sum(rate(appraiser_workers_bucket[5m]))", "", "no metric appraiser_workers_bucket"),
        ("node_load1 and appraiser_workers", "", "no metric node_load1"),
        ('appraiser_requests_total{code="500"}', "", "no label code of appraiser_requests_total"),
        ('up{worker="0"} == 1', "", "no label worker of up"),
        ("sum by (arm) (appraiser_workers)", "", "no label arm in sum by (arm) (appraiser_workers)"),
        ("appraiser_workers", "{{arm}}", "no label arm in appraiser_workers"),
    ],
)
def test_a_name_that_is_not_counted_is_found(query: str, legend: str, fault: str) -> None:
    assert faults(query, legend) == [fault]


def test_everything_that_is_counted_is_on_the_dashboard() -> None:
    shown = set(re.findall(r"\w+", " ".join(query for query, _ in targets())))
    samples = {name: {name, *(name + suffix for suffix in SAMPLES_OF_A_HISTOGRAM)} for name in METRICS}

    assert [name for name, found in samples.items() if not found & shown] == []


def test_monitoring_is_asked_for_reachable_from_this_host_only_and_reads_deploy() -> None:
    services = parsed(ROOT / "docker-compose.yml")["services"]
    asked = {name: service for name, service in services.items() if service.get("profiles") == ["monitoring"]}

    assert set(asked) == {"prometheus", "grafana"}
    for service in asked.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
        folder, _, mode = service["volumes"][0].split(":")
        assert ((ROOT / folder).is_dir(), mode) == (True, "ro")
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    (scraped,) = parsed(DEPLOY / "prometheus.yml")["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": ["service:8000"]}]
    assert "service" in services


def compose() -> Any:  # noqa: ANN401 -- whatever the file holds
    return parsed(ROOT / "docker-compose.yml")


@pytest.mark.parametrize("name", compose()["services"])
def test_every_container_has_no_more_than_it_needs(name: str) -> None:
    service = compose()["services"][name]

    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "cpu_quota"} <= set(service)
    assert "privileged" not in service


def test_the_service_may_write_to_run_and_journal_only() -> None:
    service = compose()["services"]["service"]
    volumes = [volume.rpartition("/app/")[2] for volume in service["volumes"]]

    assert volumes == ["artifacts:ro", "run", "journal"]
    assert service["tmpfs"] == []


def test_a_stop_has_a_second_more_than_gunicorn_takes_for_it() -> None:
    grace = int(compose()["services"]["service"]["stop_grace_period"].removesuffix("s"))
    graceful = runpy.run_path(str(ROOT / "gunicorn.conf.py"))["graceful_timeout"]

    assert grace == graceful + 2  # gunicorn kills what is left within a second after its own timeout
    assert "\nSTOPSIGNAL SIGTERM\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_only_the_proxy_can_be_reached_from_other_hosts_and_the_service_believes_it_and_nobody_else() -> None:
    services = compose()["services"]
    (published,) = services["service"]["ports"]
    (network,) = compose()["networks"]["default"]["ipam"]["config"]
    proxys, services_own = (services[name]["networks"]["default"]["ipv4_address"] for name in ("proxy", "service"))

    assert published == "${ADDRESS:-127.0.0.1}:${PORT:-8000}:8000"
    assert services["proxy"]["profiles"] == ["proxy"]
    assert re.fullmatch(r"nginx:\d+\.\d+\.\d+-alpine", services["proxy"]["image"])
    assert services["service"]["environment"] == {"APPRAISER_TRUSTED_PROXIES": proxys}
    assert f"\nserver {services_own}:8000 " in (DEPLOY / "nginx" / "instances.conf").read_text(encoding="utf-8")
    for address in (proxys, services_own, network["gateway"]):
        assert ip_address(address) in ip_network(network["subnet"])
        assert ip_address(address) not in ip_network(network["ip_range"])
    assert len({proxys, services_own, network["gateway"]}) == 3
