"""What is installed is locked: every set of requirements, with hashes, and one set is the beginning of the next."""

import re
from itertools import pairwise
from typing import Final

import pytest

from tests.gunicorn_process import ROOT

SETS: Final = ["requirements.txt", "requirements-train.txt", "requirements-dev.txt", "requirements-bench.txt"]
HASHES: Final = r"((?: \\\n    --hash=sha256:[0-9a-f]{64})*)"
PINNED: Final = re.compile(r"^([a-z0-9-]+(?:\[\w+\])?==\S+)(?: ; [^\\\n]+)?" + HASHES + r"\n", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    """Each package of a set with its version, and its hashes."""
    return dict(PINNED.findall((ROOT / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", SETS)
def test_every_package_of_a_set_has_a_version_and_a_hash(name: str) -> None:
    lines = re.findall(r"^[^\s#].*", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    found = locked(name)

    assert len(found) == len(lines) > 20
    assert [package for package, hashes in found.items() if not hashes] == []


@pytest.mark.parametrize(("smaller", "larger"), [*pairwise(SETS)])
def test_what_one_set_locks_the_next_locks_alike(smaller: str, larger: str) -> None:
    assert locked(smaller).items() <= locked(larger).items()


def test_all_sets_are_known_here() -> None:
    assert {path.name for path in ROOT.glob("requirements*.txt")} == set(SETS)
