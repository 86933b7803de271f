"""What two services, and a service whose folder goes away, leave in a journal."""

import json
import re
import shutil
from pathlib import Path
from typing import Final

import httpx

from pricing.artifacts.store import Store
from pricing.journal.journal import read
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.reliability.scrapes import Scrapes

HOUSE: Final = {"square_feet": 2000, "bedrooms": 3, "bathrooms": 2, "age_years": 10, "distance_to_city": 5}


def ask(server: GunicornProcess, times: int) -> set[str]:
    """The ids of so many predictions."""
    with httpx.Client(base_url=server.url) as client:
        return {client.post("/predict", json=HOUSE).raise_for_status().json()["prediction_id"] for _ in range(times)}


def counted(server: GunicornProcess) -> tuple[int, int]:
    """Records and dropped predictions, as the metrics say."""
    scrapes = Scrapes(server)
    return scrapes.total("appraiser_journal_records_total"), scrapes.total("appraiser_journal_dropped_total")


def test_two_services_of_one_name_in_one_journal_number_their_records_apart_and_say_so(
    store: Store, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    places = {"APPRAISER_ARTIFACTS": str(store.root), "APPRAISER_JOURNAL": str(journal), "APPRAISER_INSTANCE": "same"}
    with gunicorn(None, cwd=ROOT, workers=1, env=places) as one, gunicorn(None, cwd=ROOT, workers=1, env=places) as two:
        answered = ask(one, 10) | ask(two, 10)
        said = one.log, two.log

    records = list(read(journal))
    assert {record.prediction_id for record in records} == answered
    assert len({(record.instance, record.slot, record.sequence) for record in records}) == len(records) == 20
    assert "another process writes as" not in said[0]
    (line,) = [line for line in said[1].splitlines() if "another process writes as" in line]
    assert "another process writes as same-0 in the journal in" in json.loads(line)["event"]


def test_a_folder_that_is_removed_under_a_service_costs_no_answer_and_what_counts_as_recorded_is_on_disk(
    store: Store, tmp_path: Path
) -> None:
    above = tmp_path / "volume"
    places = {"APPRAISER_ARTIFACTS": str(store.root), "APPRAISER_JOURNAL": str(above / "journal")}
    with gunicorn(None, cwd=ROOT, workers=1, env=places) as server:
        ask(server, 2)
        assert counted(server) == (2, 0)
        shutil.rmtree(above)
        ask(server, 3)
        # Records that came since the last look are said to be lost. Of the three, one is among them if the background
        # looked right before the folder was removed; of the two before, those that came after the last look are.
        lost = sum(map(int, re.findall(r"while it was written; (\d+) records are lost", server.log)))
        recorded, dropped = counted(server)
        assert recorded - 2 <= lost <= recorded
        assert recorded + dropped == 5 + lost
        assert not above.exists()
        (above / "journal").mkdir(parents=True)
        answered = ask(server, 4)
        assert counted(server) == (recorded + 4, dropped)
        log = server.log

    assert {record.prediction_id: record.sequence for record in read(above / "journal")}.keys() == answered
    assert [record.sequence for record in read(above / "journal")] == [6, 7, 8, 9]
    assert "No such file or directory; predictions are not recorded" in log
    assert f"the journal records again; it has dropped {dropped - lost} predictions" in log
