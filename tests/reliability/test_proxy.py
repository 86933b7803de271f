"""Two instances behind nginx, of which one after the other is ended and started anew while clients ask."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final

import pytest

from pricing.artifacts.store import Store
from pricing.journal.journal import read
from tests.gunicorn_process import GunicornProcess
from tests.nginx_process import NginxProcess, free_port, needs_nginx, nginx
from tests.reliability.load import RATE, Load, Outcome
from tests.reliability.workers import BODIES, crossed, prices, serve, store_of, train_version
from tests.waiting import wait_until

pytestmark = needs_nginx

ENDS: Final = 5
NAMES: Final = ("one", "two")


def instance(store: Store, journal: Path, name: str, port: int) -> AbstractContextManager[GunicornProcess]:
    """One of those that share a journal."""
    return serve(store, env={"APPRAISER_JOURNAL": str(journal), "APPRAISER_INSTANCE": name}, port=port)


def answered(load: Load, count: int) -> None:
    """Wait for so many answers."""
    before = len(load.outcomes)
    wait_until(lambda: len(load.outcomes) >= before + count)


def terminate(server: GunicornProcess, _load: Load) -> None:
    server.stop()


def kill(server: GunicornProcess, load: Load) -> None:
    """With requests in hand: it is stopped until the other one has answered some."""
    os.killpg(server.pid, signal.SIGSTOP)
    answered(load, 20)
    os.killpg(server.pid, signal.SIGKILL)
    server.process.wait()


def asked_of_both(proxy: NginxProcess) -> Counter[str]:
    """What nginx got of the instances, for requests that the first one did not answer."""
    asked = [json.loads(line)["statuses"] for line in proxy.log.splitlines()]
    return Counter(statuses for statuses in asked if "," in statuses)


def during(load: Load, since: float, until: float) -> list[Outcome]:
    """What was asked and answered in between."""
    return [outcome for outcome in load.outcomes if since < outcome.sent and outcome.finished < until]


@pytest.mark.parametrize("end", [terminate, kill])
def test_no_request_fails_while_one_instance_after_the_other_is(
    tmp_path: Path, end: Callable[[GunicornProcess, Load], None]
) -> None:
    version, journal = train_version("v1.0.0", "gradient-boosting"), tmp_path / "journal"
    store, ports, away = store_of(tmp_path, version), [free_port() for _ in NAMES], list[tuple[str, float, float]]()
    with ExitStack() as stack:

        def start(number: int) -> tuple[ExitStack, GunicornProcess]:
            own = stack.enter_context(ExitStack())
            return own, own.enter_context(instance(store, journal, NAMES[number], ports[number]))

        running = [start(number) for number in range(len(NAMES))]
        proxy = stack.enter_context(nginx(*ports))
        with Load(proxy.port, BODIES).running() as load:
            answered(load, int(RATE))
            for number in range(ENDS):
                one, (own, server) = number % 2, running[number % 2]
                end(server, load)
                own.close()
                gone = time.monotonic()
                answered(load, int(RATE))
                away.append((NAMES[1 - one], gone, time.monotonic()))
                running[one] = start(one)  # and the next one ends at once, as in an update
        twice = asked_of_both(proxy)

    by = {record.prediction_id: record.instance for record in read(journal)}
    told = [prediction for outcome in load.outcomes for prediction in outcome.prediction_ids]
    alone = {(by[given], name) for name, *of in away for asked in during(load, *of) for given in asked.prediction_ids}
    print(
        f"\n{ENDS} times {end.__name__}: {len(load.outcomes):,} requests, {len(load.failed())} failed; answered by "
        f"{dict(Counter(by[prediction] for prediction in told))}; the slowest took "
        f"{1_000 * max(outcome.seconds for outcome in load.outcomes):.0f} ms; asked of both {dict(twice)}; "
        f"{len(by) - len(told)} recorded and not received"
    )
    assert load.failed() == []
    assert crossed(load.outcomes, prices(version)) == []
    assert alone == {("one", "one"), ("two", "two")}  # who answered, and who was there
    assert twice  # else nobody noticed, and this shows nothing
