"""Who is on which arm, what may follow a deployment, and which pointers are none."""

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pricing.artifacts.deployment import (
    BUCKETS,
    Deployment,
    DeploymentPlan,
    bucket_of,
    promote,
    promote_challenger,
    restored,
    roll_back,
    split_traffic,
)
from pricing.errors import DeploymentChangedError, NoPreviousError, NothingDeployedError, SplitError
from tests.gunicorn_process import ROOT

SEAL: Final = "0" * 64
KEYS: Final = 100_000
SHAPES: Final[dict[str, Callable[[int], str]]] = {
    "numbers": str,
    "padded numbers": lambda number: f"client-{number:08d}",
    "uuids": lambda number: str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))),
    "e-mails": lambda number: f"user.{number}@example.com",
}


def deployed(target: DeploymentPlan, generation: int = 1) -> Deployment:
    """A target under a generation, with seals."""
    named = {target.champion, *filter(None, [target.previous]), *target.split}
    return Deployment(generation=generation, **target._asdict(), sha256=dict.fromkeys(named, SEAL))


def champion() -> Deployment:
    return deployed(promote(None, "v1.0.0"))


def split(weights: dict[str, int], current: Deployment | None = None) -> Deployment:
    current = current or champion()
    return deployed(split_traffic(current, weights), current.generation + 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("since", [1, 2, 1_000_000])
def test_of_100000_clients_10_percent_are_on_an_arm_of_10_percent(shape: str, since: int) -> None:
    buckets = split({"v1.0.0": 90, "v1.1.0": 10}).buckets()
    arms = Counter(buckets[bucket_of(SHAPES[shape](number).encode(), since)] for number in range(KEYS))

    assert abs(arms["v1.1.0"] / KEYS - 0.1) <= 0.003


@pytest.mark.parametrize("shape", SHAPES)
def test_every_bucket_gets_its_share(shape: str) -> None:
    counts = Counter(bucket_of(SHAPES[shape](number).encode(), 1) for number in range(KEYS))
    expected = KEYS / BUCKETS

    chi_square = sum((counts[bucket] - expected) ** 2 / expected for bucket in range(BUCKETS))
    assert chi_square < 161  # 99 degrees of freedom: one in 10,000 fair draws is above


def test_a_hash_that_is_none_would_be_seen() -> None:
    """The control: taken by its number, a client whose numbers end in 0 to 8 never comes to the last buckets."""
    keys = [number * 10 for number in range(KEYS)]
    on_arm = sum(key % BUCKETS >= 95 for key in keys)

    assert abs(on_arm / KEYS - 0.05) > 0.003


def test_another_split_draws_anew() -> None:
    moved = sum(bucket_of(b"%d" % key, 1) != bucket_of(b"%d" % key, 2) for key in range(10_000))

    assert moved > 9_800  # 99 of 100


GOLDEN: Final = {("ann", 1): 95, ("bob", 1): 9, ("", 1): 40, ("ann", 2): 96}


def test_a_client_keeps_its_bucket_in_every_release() -> None:
    assert {key: bucket_of(key[0].encode(), key[1]) for key in GOLDEN} == GOLDEN


def test_a_client_keeps_its_bucket_in_every_process() -> None:
    program = "from pricing.artifacts.deployment import bucket_of; print([bucket_of(b'%d' % n, 7) for n in range(100)])"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1")
    }

    assert found == {f"{[bucket_of(b'%d' % n, 7) for n in range(100)]}\n"}


@st.composite
def weightings(draw: st.DrawFn) -> dict[str, int]:
    """Weights of the champion v1.0.0 and of up to four others."""
    others = draw(st.lists(st.sampled_from(["v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"]), unique=True, min_size=1))
    cuts = sorted(draw(st.lists(st.integers(1, 99), min_size=len(others), max_size=len(others), unique=True)))
    bounds = [0, *cuts, BUCKETS]
    return dict(zip(["v1.0.0", *others], (b - a for a, b in pairwise(bounds)), strict=True))


@given(weightings(), weightings(), weightings())
def test_when_weights_change_a_client_moves_only_when_its_arm_shrinks(
    first: dict[str, int], second: dict[str, int], third: dict[str, int]
) -> None:
    before = split(second, split(first))
    after = split(third, before)

    moved = Counter(a for a, b in zip(before.buckets(), after.buckets(), strict=True) if a != b)
    shrunk = {arm: weight - third.get(arm, 0) for arm, weight in second.items() if weight > third.get(arm, 0)}
    assert moved == shrunk
    assert after.arms == third
    assert after.split_since == before.split_since == 2


@given(weightings())
def test_a_split_is_read_as_it_was_written(weights: dict[str, int]) -> None:
    deployment = split(weights)

    again = Deployment.model_validate_json(deployment.model_dump_json())
    assert again == deployment
    assert again.buckets() == deployment.buckets()
    assert Counter(again.buckets()) == again.arms == weights


def test_a_new_split_has_a_salt_of_its_own_and_a_running_one_keeps_it() -> None:
    first = split({"v1.0.0": 90, "v1.1.0": 10})
    wider = split({"v1.0.0": 50, "v1.1.0": 50}, first)
    ended = split({"v1.0.0": 100}, wider)
    second = split({"v1.0.0": 90, "v1.1.0": 10}, ended)

    assert [found.split_since for found in (first, wider, ended, second)] == [2, 2, None, 5]
    assert ended.split == {}
    assert ended.arms == {"v1.0.0": 100}


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"v1.0.0": 90, "v1.1.0": 20}, "add up to 100; got v1.0.0=90 v1.1.0=20"),
        ({"v1.0.0": 90, "v1.1.0": 9}, "add up to 100; got v1.0.0=90 v1.1.0=9"),
        ({"v1.0.0": 101, "v1.1.0": -1}, "at least 1 each, and add up to 100; got "),
        ({"v1.0.0": 100, "v1.1.0": 0}, "at least 1 each, and add up to 100; got "),
        ({"v1.1.0": 50, "v1.2.0": 50}, "the champion v1.0.0 must be one of the arms; got v1.1.0=50 v1.2.0=50"),
    ],
)
def test_weights_that_divide_nothing_are_refused(weights: dict[str, int], sentence: str) -> None:
    with pytest.raises(SplitError) as refused:
        split_traffic(champion(), weights)

    assert sentence in str(refused.value)


def test_nothing_deployed_cannot_be_split_and_has_nothing_to_roll_back_to() -> None:
    with pytest.raises(NothingDeployedError):
        split_traffic(None, {"v1.0.0": 100})
    for current in (None, champion()):
        with pytest.raises(NoPreviousError):
            roll_back(current)


def test_a_promotion_ends_a_split_and_remembers_the_champion() -> None:
    running = split({"v1.0.0": 90, "v1.1.0": 10})

    assert promote(running, "v1.1.0") == DeploymentPlan("v1.1.0", "v1.0.0", {}, None)
    assert promote(running, "v1.0.0") == DeploymentPlan("v1.0.0", None, {}, None)


def test_a_challenger_succeeds_the_champion_that_it_was_judged_against_and_no_other() -> None:
    assert promote_challenger(champion(), "v1.0.0", "v1.2.0") == promote(champion(), "v1.2.0")
    for current in (None, deployed(promote(champion(), "v1.1.0"), 2)):
        with pytest.raises(
            DeploymentChangedError, match=r"^v1\.2\.0 was judged against v1\.0\.0, but .* champion now; "
        ):
            promote_challenger(current, "v1.0.0", "v1.2.0")


def test_a_rollback_goes_back_and_another_one_forth() -> None:
    second = deployed(promote(champion(), "v1.1.0"), 2)
    back = deployed(roll_back(second), 3)

    assert (back.champion, back.previous) == ("v1.0.0", "v1.1.0")
    assert roll_back(back) == DeploymentPlan("v1.1.0", "v1.0.0", {}, None)


def test_what_is_restored_is_what_was_deployed_split_and_all() -> None:
    running = split({"v1.0.0": 90, "v1.1.0": 10})

    assert deployed(restored(running), 9) == running.model_copy(update={"generation": 9})


def test_every_version_has_a_role_and_the_champion_comes_first() -> None:
    running = split({"v1.1.0": 90, "v1.2.0": 10}, deployed(promote(champion(), "v1.1.0"), 2))

    assert running.named() == ("v1.1.0", "v1.0.0", "v1.2.0")
    assert [running.role(version) for version in running.named()] == ["champion", "previous", "challenger"]


def test_a_pointer_of_the_first_release_is_read() -> None:
    pointer = {"generation": 1, "champion": "v1.0.0", "previous": None, "split": {}, "sha256": {"v1.0.0": SEAL}}

    assert Deployment.model_validate_json(json.dumps(pointer)) == champion()


NOT_DIVIDED: Final = "the split must give each of 100 buckets to one arm, one of them the champion"
BOTH_SEALED: Final = {"split_since": 1, "sha256": {"v1.0.0": SEAL, "v1.1.0": SEAL}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"generation": 0}, "greater than or equal to 1"),
        ({"champion": "1.0.0"}, "should match pattern"),
        ({"sha256": {}}, "the sha256 is missing of v1.0.0"),
        ({"sha256": {"v1.0.0": "short"}}, "should match pattern"),
        ({"previous": "v0.9.0"}, "the sha256 is missing of v0.9.0"),
        ({"split": {"v1.0.0": [[0, 50]], "v1.1.0": [[50, 100]]}, "split_since": 1}, "the sha256 is missing of v1.1.0"),
        ({"format": 0}, "observed format 0, expected a whole number from 1"),
        ({"split": {"v1.0.0": [[0, 101]]}, "split_since": 1}, "less than or equal to 100"),
        ({"split": {"v1.0.0": [[-1, 100]]}, "split_since": 1}, "greater than or equal to 0"),
        ({"split": {"v1.0.0": [[0, 90]]}, "split_since": 1}, NOT_DIVIDED),
        ({"split": {"v1.0.0": [[0, 90], [80, 100]]}, "split_since": 1}, NOT_DIVIDED),
        ({"split": {"v1.0.0": [[0, 60]], "v1.1.0": [[50, 100]]}, **BOTH_SEALED}, NOT_DIVIDED),
        ({"split": {"v1.1.0": [[0, 100]]}, **BOTH_SEALED}, NOT_DIVIDED),
        ({"split": {"v1.0.0": [[0, 100]]}}, NOT_DIVIDED),  # a split without a salt
    ],
)
def test_what_is_no_deployment_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Deployment.model_validate(champion().model_dump() | change)

    assert sentence in str(refused.value)
