"""Every format, as the next release may write it: with more fields it is read, and a breaking one is refused.

`grown` is what a later release does when it only adds: a higher number, still readable from ours, and unknown fields at
every level. `broken` is what it does when it changes a meaning: a number from which we cannot read.
"""

import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
import orjson
import pytest

from pricing.artifacts import sales_file
from pricing.artifacts.deployment import Deployment, promote
from pricing.artifacts.manifest import Manifest, is_version
from pricing.artifacts.store import MANIFEST_FILE, POINTER_FILE, Artifact, Store
from pricing.errors import DamagedArtifactError, DamagedJournalError, DamagedKeysError
from pricing.format import Stored
from pricing.inference.predictor import load
from pricing.inference.sandbox import load_in_sandbox
from pricing.journal.journal import Context, Journal, Record, Source
from pricing.journal.journal import read as read_journal
from score.plan import Plan as ScorePlan
from score.work import Done
from service.access.api_keys import KEYS_FILE, KeySnapshot, KeyStore, _Keys
from service.deployment.loaded_models import ModelRegistry
from service.deployment.rollout import roll_out
from service.deployment.worker_slots import RunFolder, RunFolderError, WorkerState
from tests.bodies import GOOD
from tests.column_sales import Keeping
from tests.gunicorn_process import ROOT, gunicorn
from train.errors import TrainingError
from train.promotion.judge import QuintileComparison, Verdict
from train.promotion.retraining import VERDICT_FILE, verdicts
from train.sales import test_rows as seen

MAPS: Final = {"max_iter", "numpy", "square_feet", "price"}
"""A name of each object that has data for names: parameters, libraries, the values of a house."""
ADDED: Final = {"of a later release": [{"some": "thing"}]}
SENTENCE: Final = (
    "observed format {next}, which needs a release that reads format {next}, but this release reads up to "
    "format {ours}; use the release that wrote it, or a newer one"
)


FIGURES: Final = {
    **dict.fromkeys(("rows", "groups", "new_rows", "used_before"), 1),
    **dict.fromkeys(("champion_error", "challenger_error", "gain", "gain_lower", "skill_lower"), 0.1),
    **dict.fromkeys(("coverage", "coverage_tolerance", "parity_ppm", "parity_limit_ppm"), 0.9),
}
TOLD: Final = {"champion": "v1.0.0", "challenger": "v1.1.0", "salt": "0", "only_new": False, "against": ()}


def deeply(found: Any) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """The same, with an unknown field in every object whose keys are names of fields."""
    if isinstance(found, list):
        return [deeply(inner) for inner in found]
    if isinstance(found, dict):
        inner = {name: deeply(value) for name, value in found.items()}
        return inner if is_map(found) else inner | ADDED
    return found


def is_map(found: dict[str, Any]) -> bool:
    """Whether the keys are data: versions, parameters, libraries, fields of a house."""
    return not found or any(is_version(name) or name in MAPS for name in found)


def grown(data: bytes, ours: int = 1) -> bytes:
    return orjson.dumps(deeply(orjson.loads(data)) | {"format": ours + 1, "readable_from": ours})


def broken(data: bytes, ours: int = 1) -> bytes:
    return orjson.dumps(deeply(orjson.loads(data)) | {"format": ours + 1, "readable_from": ours + 1})


def sentence(ours: int = 1) -> str:
    return SENTENCE.format(next=ours + 1, ours=ours)


def change(path: Path, how: Callable[[bytes], bytes]) -> None:
    path.write_bytes(how(path.read_bytes()))


def reseal(store: Store, version: str, how: Callable[[bytes], bytes]) -> None:
    """Write the manifest of a version as another release would, and the deployment that seals it."""
    path = store.root / version / MANIFEST_FILE
    change(path, how)
    pointer = orjson.loads((store.root / POINTER_FILE).read_bytes())
    pointer["sha256"][version] = hashlib.sha256(path.read_bytes()).hexdigest()
    (store.root / POINTER_FILE).write_bytes(orjson.dumps(pointer))


def by_next_release(store: Store) -> None:
    """A store as the next release leaves it, which has only added fields."""
    for version in store.versions():
        reseal(store, version, grown)
    change(store.root / POINTER_FILE, grown)


def test_the_deployment_carries_its_format(store: Store) -> None:
    assert orjson.loads((store.root / POINTER_FILE).read_bytes())["format"] == 1


def test_the_deployment_of_the_next_release_is_read_and_replaced(store: Store) -> None:
    ours = store.deployment()
    change(store.root / POINTER_FILE, grown)

    found = store.deployment()

    assert found.model_copy(update={"format": 1, "readable_from": None}) == ours
    assert store.deploy("v1.0.0").generation == 2


def test_a_deployment_without_a_number_is_of_format_1(store: Store) -> None:
    pointer = orjson.loads((store.root / POINTER_FILE).read_bytes())
    del pointer["format"]
    (store.root / POINTER_FILE).write_bytes(orjson.dumps(pointer))

    assert store.deployment().format == 1


def test_a_deployment_that_needs_a_later_release_is_refused(store: Store) -> None:
    change(store.root / POINTER_FILE, broken)

    with pytest.raises(DamagedArtifactError) as refused:
        store.deployment()

    assert str(refused.value) == f"deployment.json: whole file: {sentence()}; or remove the file and promote a version"


def test_the_manifest_of_the_next_release_is_verified_proved_and_loaded(store: Store, published: Artifact) -> None:
    reseal(store, "v1.0.0", lambda data: grown(data, 3))

    artifact = store.read("v1.0.0", store.seal("v1.0.0"))

    assert artifact.manifest.model_copy(update={"format": 3, "readable_from": 1}) == published.manifest
    load(artifact)
    load_in_sandbox(artifact)


def test_an_unknown_field_of_a_manifest_is_sealed_too(store: Store) -> None:
    reseal(store, "v1.0.0", grown)
    change(store.root / "v1.0.0" / MANIFEST_FILE, lambda data: data.replace(b"thing", b"other", 1))

    with pytest.raises(DamagedArtifactError, match=r"^observed sha256 "):
        store.read("v1.0.0", store.seal("v1.0.0"))


def test_a_manifest_that_needs_a_later_release_is_refused_and_the_previous_version_answers(
    store: Store, published: Artifact
) -> None:
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    store.deploy("v1.1.0")
    reseal(store, "v1.1.0", lambda data: broken(data, 3))
    models = ModelRegistry(store)

    models.follow()

    assert [found.reason for found in models.refused] == [f"manifest.json: manifest: {sentence(3)}"]
    assert models.serving().champion.manifest.version == "v1.0.0"


def test_keys_of_the_next_release_are_read_and_its_fields_survive_a_change_by_this_one(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    key, text = store.create("a client", ["read"], timedelta(days=1))
    change(tmp_path / KEYS_FILE, grown)
    assert KeySnapshot(store.stored()).authenticate(text) is not None

    store.revoke(key.id)

    found = orjson.loads((tmp_path / KEYS_FILE).read_bytes())
    assert (found["format"], found["readable_from"]) == (2, 1)
    assert found["keys"][0]["revoked_at"] is not None
    for part in (found, found["keys"][0]):
        assert part.items() >= ADDED.items()


def test_keys_that_need_a_later_release_are_refused_and_left_alone(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.create("a client", ["read"], None)
    change(tmp_path / KEYS_FILE, broken)
    before = (tmp_path / KEYS_FILE).read_bytes()

    with pytest.raises(DamagedKeysError) as refused:
        store.create("another", ["read"], None)

    assert str(refused.value) == f"keys.json: whole file: {sentence()}"
    assert (tmp_path / KEYS_FILE).read_bytes() == before


def test_the_state_of_a_worker_of_the_next_release_is_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    state = WorkerState.model_validate({"generation": 7, "refused": [{"generation": 8, "reason": "no"}]})
    run.claim().write(state)
    change(tmp_path / "slot-0.json", grown)

    (found,) = run.workers()

    assert found.model_copy(update={"format": 1, "readable_from": None}) == state


def test_the_state_of_a_worker_that_needs_a_later_release_is_told(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.claim().write(WorkerState())
    change(tmp_path / "slot-0.json", broken)

    with pytest.raises(RunFolderError) as refused:
        run.workers()

    assert str(refused.value).endswith(f"a slot holds no state of a worker: whole file: {sentence()}")


def test_metrics_of_another_layout_have_other_names_and_are_not_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    ours = run.claim().metrics
    for path in (*ours, tmp_path / "counter_0.v2.db", tmp_path / "summary_0.db"):
        path.write_bytes(b"another layout")

    assert run.metrics() == sorted(ours)


def line_of_the_journal(root: Path) -> Path:
    source = Source(7, "v1.0.0", "champion", "0" * 64, 0.9, cache_hit=False)
    house = {"square_feet": 2000.0}
    journal = Journal(root, "host-1", 0, 1 << 20, keep_days=1)
    assert journal.append(
        Context(source, "2026-11-24T08:22:39.747+00:00", "abc-1", None), [("a", house, 2.0, 1.0, 3.0)]
    )
    (path,) = root.glob("*.jsonl")
    return path


def test_a_line_of_the_journal_carries_its_format_and_that_of_the_next_release_is_read(tmp_path: Path) -> None:
    path = line_of_the_journal(tmp_path)
    (ours,) = read_journal(tmp_path)
    assert path.read_bytes().endswith(b',"format":1}\n')
    change(path, lambda line: grown(line) + b"\n")

    (found,) = read_journal(tmp_path)

    assert found.model_copy(update={"format": 1, "readable_from": None}) == ours


def test_a_line_of_the_journal_that_needs_a_later_release_is_told(tmp_path: Path) -> None:
    change(line_of_the_journal(tmp_path), lambda line: broken(line) + b"\n")

    with pytest.raises(DamagedJournalError) as refused:
        list(read_journal(tmp_path))

    assert str(refused.value) == f"a line of the journal is not a valid record: line: {sentence()}"


def test_the_verdict_of_the_next_release_is_read_and_one_that_needs_it_is_told(
    tmp_path: Path, published: Artifact
) -> None:
    part = QuintileComparison(rows=1, lowest_price=1.0, highest_price=2.0, loss=-0.1, loss_lower=float("-inf"))
    ours = Verdict.model_validate(FIGURES | TOLD | {"fifths": (part,)})
    store = Store(tmp_path)
    store.publish(published, {VERDICT_FILE: grown(ours.model_dump_json().encode())})

    (found,) = verdicts(store)
    again = found.model_copy(update={"format": 1, "readable_from": None})
    assert (
        again.model_dump_json() == ours.model_dump_json()
    )  # as text, since what is not known is NaN, unequal to itself

    change(tmp_path / "v1.0.0" / VERDICT_FILE, broken)
    with pytest.raises(TrainingError) as refused:
        verdicts(store)
    assert str(refused.value) == f"v1.0.0/verdict.json: whole file: {sentence()}"


def test_the_test_rows_of_the_next_release_are_read_and_those_that_need_it_are_told() -> None:
    rows = np.array([1, 2, 3], dtype=np.uint64)
    head, _, rest = seen.to_bytes(rows).partition(b"\n")
    assert orjson.loads(head) == {"format": 2}

    found = seen.parse(grown(head, ours=2) + b"\n" + rest, "v1.0.0")
    assert found is not None
    assert found.tolist() == [1, 2, 3]

    with pytest.raises(TrainingError) as refused:
        seen.parse(broken(head, ours=2) + b"\n" + rest, "v1.0.0")
    assert str(refused.value) == f"v1.0.0/test_rows.bin: whole file: {sentence(ours=2)}"


def test_test_rows_of_format_1_have_no_head_and_are_read() -> None:
    content = np.array([1, 2, 3], dtype="<u8").tobytes()

    found = seen.parse(hashlib.sha256(content).digest() + content, "v1.0.0")

    assert found is not None
    assert found.tolist() == [1, 2, 3]


def test_the_sales_of_the_next_release_are_read_and_those_that_need_it_are_told(keeping: Keeping) -> None:
    manifest, content = keeping.artifact.manifest, keeping.artifact.sales or b""
    head, _, rest = content.partition(b"\n")
    assert orjson.loads(head)["format"] == 1

    def with_head(line: bytes) -> bytes:
        return line + b" " * (-(len(line) + 1) % 8) + b"\n" + rest

    found = sales_file.parse_sales(with_head(grown(head)), manifest)
    assert found.to_bytes() == content

    with pytest.raises(DamagedArtifactError) as refused:
        sales_file.parse_sales(with_head(broken(head)), manifest)
    assert str(refused.value) == f"sales.bin: head: {sentence()}"


WRONG: Final[list[object]] = [0, -1, 1.0, True, "1", None, [1], {}]


class Numbers(NamedTuple):
    """What a file says of its format, and what is wrong with that; None if nothing is."""

    head: dict[str, object]
    told: str | None


@pytest.mark.parametrize(
    "numbers",
    [
        Numbers({}, None),
        Numbers({"format": 1}, None),
        Numbers({"format": 9, "readable_from": 1}, None),
        Numbers({"format": 1, "readable_from": None}, None),
        Numbers({"format": 9}, "reads format 9, "),
        Numbers({"format": 9, "readable_from": 2}, "reads format 2, "),
        Numbers({"readable_from": 2}, "reads format 2, "),
        *(Numbers({"format": number}, "whole number") for number in WRONG),
        Numbers({"format": 2, "readable_from": "1"}, "whole number"),
    ],
)
def test_the_rule_is_the_same_for_every_format(numbers: Numbers) -> None:
    if numbers.told is None:
        Stored.model_validate(numbers.head)
    else:
        with pytest.raises(ValueError, match=numbers.told):
            Stored.model_validate(numbers.head)


def test_every_format_follows_the_rule() -> None:
    assert {found.__name__ for found in Stored.__subclasses__() if found.__module__.split(".")[0] != "tests"} == {
        found.__name__
        for found in (
            Deployment,
            Manifest,
            Record,
            _Keys,
            WorkerState,
            Verdict,
            seen.Head,
            sales_file.Head,
            Done,
            ScorePlan,
        )
    }


def test_this_release_boots_ready_on_what_the_next_one_has_written(
    store: Store, published: Artifact, tmp_path: Path
) -> None:
    """A rollback of the code beside a worker of the next release, as with USR2: all the files are of that one."""
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    store.deploy("v1.1.0")
    by_next_release(store)
    _, key = KeyStore(store.root).create("a client", ["predict", "metrics"], None)
    change(store.root / KEYS_FILE, grown)
    run = RunFolder(tmp_path / "run")
    run.hold()  # its master still runs, and its worker
    run.claim().write(WorkerState(generation=3, ready=True))  # as soon as that is deployed
    change(run.root / "slot-0.json", grown)
    (run.root / "counter_0.v2.db").write_bytes(os.urandom(100))
    env = {
        "APPRAISER_ARTIFACTS": str(store.root),
        "APPRAISER_RUN": str(run.root),
        "APPRAISER_REQUIRE_KEYS": "true",
    }
    with gunicorn(None, cwd=ROOT, workers=1, env=env) as server:
        with httpx.Client(base_url=server.url, headers={"X-API-Key": key}, timeout=30) as client:
            assert client.get("/health/ready").json() == {"status": "ready", "version": "v1.1.0", "generation": 2}
            assert client.post("/predict", content=GOOD).json()["model_version"] == "v1.1.0"
            assert "\nappraiser_workers 2.0\n" in client.get("/metrics").text
        deployed = roll_out(store, run, lambda current: promote(current, "v1.0.0"))

        assert (deployed.deployment.generation, deployed.workers) == (3, 2)
